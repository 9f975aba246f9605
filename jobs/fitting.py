"""What the two fits share: the model they start from, a progress bar, and the stored result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from transformers.utils import logging

from actors.trainer import Trained, fit
from agentrm import storage
from agentrm.cluster.roles import Role, role_resources
from agentrm.config.schema import Config
from agentrm.data.sequences import Sequences
from agentrm.training.packing import steps_of
from agentrm.training.recorder import EVENTS
from jobs.runtime import progress


def starting_model(work: str, make: Callable[[Path], None]) -> str:
    """The location of the untrained model, made by `make` once: a run that was cut keeps the one it began with."""
    # The driver only copies weights: DeepSpeed need not warn that it finds no GPU, nor
    # transformers that a new head is new.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    base = f"{work}/base"
    if not storage.finished(base):
        with storage.writing(base) as output:
            make(output)
    return base


def fit_with_progress(
    objective: Literal["policy", "reward_model"],
    base: storage.Location,
    sequences: Sequences,
    held_out: Sequences | None,
    config: Config,
    work: storage.Location,
    seed: int,
) -> Trained:
    """`actors.trainer.fit` by `config.clone` or `config.train`, under a progress bar that counts steps."""
    training = config.clone if objective == "policy" else config.train
    resources = role_resources(config, Role.training)
    with progress(f"{objective} steps", steps_of(sequences, training)) as bar:

        def show(state: dict[str, float]) -> None:
            step = int(state["step"])
            if not bar.done:
                bar.resume(step)
            bar.advance(step - bar.done, loss=state["loss"], tokens_per_s=round(state["tokens_per_second"]))

        return fit(objective, base, sequences, held_out, training, seed, work, show, resources)


def store_model(trained: Trained, work: str, output: Path) -> dict[str, float]:
    """Copy the model and its TensorBoard events to a stage's folder; returns the fit's last figures."""
    shutil.copytree(trained.directory, output, dirs_exist_ok=True)
    storage.copy(f"{work}/{EVENTS}", output / EVENTS)
    return {name: trained.progress[name] for name in ("steps", "loss", "tokens_per_second")}

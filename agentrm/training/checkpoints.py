"""Checkpoints of a fit: each rank writes its part, and as many ranks or another number read them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from agentrm.training.importing import DeepSpeedEngine

_TAG = "deepspeed"


def save(engine: DeepSpeedEngine, state: dict[str, Any], directory: Path) -> None:
    """Write this rank's part, and `state` beside it. All ranks must call this."""
    # What LoRA froze is in the base model.
    engine.save_checkpoint(
        str(directory), tag=_TAG, client_state=state, save_latest=False, exclude_frozen_parameters=True
    )


def load(engine: DeepSpeedEngine, directory: Path, strict: bool) -> dict[str, Any]:
    """Take up what `readable` gave; returns the state that was saved. Not `strict`: some parameters are in the base."""
    # At stage 0 there is nothing around it.
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    _, state = engine.load_checkpoint(str(directory), tag=_TAG, load_module_strict=strict)
    # Out of the universal form all groups have the first one's settings, and all parameters one count of steps, which
    # each would raise.
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
    for parameter_state in optimizer.state.values():
        parameter_state["step"] = torch.as_tensor(parameter_state["step"]).clone()
    return state


@contextmanager
def readable(directory: Path) -> Iterator[tuple[Path, bool]]:
    """A folder with the parts of all ranks as this many ranks can `load` them, and whether that was converted to
    DeepSpeed's universal form, for the block. All ranks must enter it.
    """
    ranks = len(list((directory / _TAG).glob("*zero_pp_rank_*_optim_states.pt")))
    if ranks in (0, distributed.get_world_size()):
        yield directory, False
        return
    # Nodes need not share a disk: one process of each converts.
    digest = blake2b(str(directory.resolve()).encode(), digest_size=8).hexdigest()
    target = Path(tempfile.gettempdir(), f"agentrm-{os.getuid()}-universal-{digest}")
    converts = os.environ.get("LOCAL_RANK", "0") == "0"
    if converts:
        shutil.rmtree(target, ignore_errors=True)
        _convert(directory / _TAG, target / _TAG)
    distributed.barrier()
    try:
        yield target, True
    finally:
        distributed.barrier()
        if converts:
            shutil.rmtree(target, ignore_errors=True)


def _convert(source: Path, target: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main

    target.mkdir(parents=True)
    # One parameter at a time, by this process alone. It tells its steps on stdout.
    with redirect_stdout(sys.stderr):
        main(
            Namespace(
                input_folder=str(source),
                output_folder=str(target),
                num_extract_workers=1,
                num_merge_workers=1,
                keep_temp_folder=False,
                strict=False,
                inject_missing_state=True,
            )
        )

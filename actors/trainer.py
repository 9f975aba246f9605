"""A fit on a cluster: Ray Train starts the workers, keeps their checkpoints and restarts them when one dies."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import ray
from pyarrow.fs import LocalFileSystem
from ray import train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from agentrm import storage
from agentrm.config.schema import Training
from agentrm.core.errors import ModelError, reason
from agentrm.training.recorder import read_progress

if TYPE_CHECKING:
    from agentrm.data.sequences import Sequences

_MODEL, _VALUES = "model", "values.npy"
_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished fit: its Hugging Face directory; `progress`, the last entry of `Recorder`; the trained weights'
    `values` (P,) at the labels of the held-out sequences, if any were given.
    """

    directory: Path
    progress: dict[str, float]
    values: np.ndarray | None


def fit(
    objective: Literal["policy", "reward_model"],
    base: storage.Location,
    sequences: Sequences,
    held_out: Sequences | None,
    training: Training,
    seed: int,
    work: storage.Location,
    show: Callable[[dict[str, float]], None],
    resources: Mapping[str, float] | None = None,
) -> Trained:
    """Train the model in `base`: a `policy` by token cross entropy, a `reward_model` by the loss of its
    `training.kind`.

    The location `work` holds checkpoints, TensorBoard events and the result; a fit that was killed goes on from its
    last checkpoint there. `work` and `base` must lie on storage that all workers reach. `show` gets the `Recorder`'s
    progress about every second, from another thread. Each worker asks for the custom `resources`. Raises ModelError
    when more than `training.max_failures` workers died, or the loss stopped being finite.
    """
    gpu = training.gpus_per_worker > 0
    # Ray Train's controller asks its workers for news only so often, and starting and ending a fit waits for it.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    if len(ray.nodes()) == 1:
        # One node has no other to move to before a preemption, and the watcher's process takes seconds to start.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    files, folder = storage.filesystem(work)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "base": str(base),
            "sequences": ray.put((sequences, held_out)),
            "training": training,
            "seed": seed,
            "work": str(work),
        },
        scaling_config=ScalingConfig(
            num_workers=training.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": 1, **({"GPU": training.gpus_per_worker} if gpu else {}), **(resources or {})},
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(
            name="fit",
            storage_path=folder,
            storage_filesystem=files,
            failure_config=FailureConfig(max_failures=training.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        with _showing(work, show):
            result = trainer.fit()
    except train.TrainingFailedError as error:
        raise ModelError(f"the fit of the {objective} failed: {reason(error)}") from error
    assert result.checkpoint is not None
    directory = _files(result.checkpoint)
    values = np.load(directory / _VALUES) if held_out is not None else None
    return Trained(directory / _MODEL, read_progress(work) or {}, values)


def _files(checkpoint: Checkpoint) -> Path:
    """A checkpoint on this machine."""
    if isinstance(checkpoint.filesystem, LocalFileSystem):
        return Path(checkpoint.path)
    return Path(checkpoint.to_directory())


@contextmanager
def _showing(work: storage.Location, show: Callable[[dict[str, float]], None]) -> Iterator[None]:
    """Hand a fit's progress to `show` whenever it has changed; workers may be on other nodes, their output is on
    storage.
    """
    ended = threading.Event()

    def follow() -> None:
        shown = None
        while True:
            last = ended.wait(_POLL_S)
            progress = read_progress(work)
            if progress is not None and progress != shown:
                shown = progress
                show(progress)
            if last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _worker(settings: dict[str, Any]) -> None:
    """Runs in each worker, whose process group Ray Train has made."""
    training = settings["training"]
    on_gpu = training.gpus_per_worker > 0
    # DeepSpeed reads this when it is imported; on a machine with idle GPUs it would not choose the CPU by itself.
    os.environ["DS_ACCELERATOR"] = "cuda" if on_gpu else "cpu"
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    from agentrm.training.loading import load_objective
    from agentrm.training.loop import fit as run_loop
    from agentrm.training.losses import LogRatioError
    from agentrm.training.recorder import Recorder
    from agentrm.training.reference import with_reference

    logging.disable_progress_bar()
    rank = train.get_context().get_world_rank()
    base = storage.fetch(settings["base"])
    if not on_gpu:
        torch.set_num_threads(1)
        # Products with numbers below 1e-38, of which attention and its gradients get more as a fit goes on, take a CPU
        # many times as long.
        torch.set_flush_denormal(True)
    latest = train.get_checkpoint()
    resume = None if latest is None else _files(latest)
    if resume is not None and (resume / _MODEL).is_dir():
        return
    objective = load_objective(base, training)

    def checkpoint(step: int, save: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            save(Path(directory))
            recorder.save()
            train.report({"step": step}, checkpoint=Checkpoint.from_directory(directory))

    recorder = Recorder(settings["work"], training.trackers)
    sequences, held_out = ray.get(settings["sequences"])
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    if isinstance(objective, LogRatioError):
        stored = storage.scratch(settings["work"])
        sequences, held_out = (
            with_reference(objective, split, training, device, stored / f"reference_{name}.npy")
            for name, split in (("train", sequences), ("held_out", held_out))
        )
    fitted = run_loop(
        objective,
        sequences,
        held_out,
        training,
        seed=settings["seed"],
        device=device,
        resume=resume,
        checkpoint=checkpoint,
        record=recorder if rank == 0 else lambda progress: None,
    )
    recorder.close()
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory)
        # What the ranks write becomes one checkpoint.
        fitted.export(target / _MODEL)
        if rank == 0:
            AutoTokenizer.from_pretrained(base).save_pretrained(target / _MODEL)
            if fitted.values is not None:
                np.save(target / _VALUES, fitted.values)
        train.report({}, checkpoint=Checkpoint.from_directory(directory))

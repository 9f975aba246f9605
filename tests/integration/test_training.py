"""Real fits: Ray Train, DeepSpeed and two workers, of which one is killed and comes back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from actors.trainer import Trained, fit
from agentrm import storage
from agentrm.config.schema import Model, Scratch, Train
from agentrm.data.sequences import Sequences
from agentrm.models.explicit import build, verify
from agentrm.models.initial import prepare
from agentrm.training.packing import steps_of

TRAINING = Train(
    epochs=12, learning_rate=1e-3, tokens_per_batch=512, zero_stage=3, workers=2, checkpoints=2, max_failures=1
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    model = Model(source="scratch", context=64, scratch=Scratch(vocabulary=300, hidden=64, layers=2, heads=2))
    prepare(model, ["go to the ball"] * 9, 0, root / "policy")
    build(root / "policy", root / "base")
    return root / "base"


def sequences(count: int, seed: int) -> Sequences:
    """Each value is the share of even tokens so far: it can be learned, and no two states have the same by chance."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ids = random.integers(4, 250, random.integers(10, 60))
        ends = np.arange(4, len(ids), 5)
        rows.append((ids, ends, np.cumsum(ids % 2 == 0)[ends] / (ends + 1)))
    return Sequences.of(rows, np.float32)


TRAIN, HELD_OUT = sequences(160, 0), sequences(12, 1)


def run(base: storage.Location, work: storage.Location) -> tuple[Trained, list[dict[str, float]]]:
    shown: list[dict[str, float]] = []
    return fit("reward_model", base, TRAIN, HELD_OUT, TRAINING, 7, work, shown.append), shown


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[dict[str, float]]]:
    return run(base, tmp_path_factory.mktemp("undisturbed") / "work")


def test_a_fit_learns_reports_and_exports_what_it_trained(
    undisturbed: tuple[Trained, list[dict[str, float]]], base: Path
) -> None:
    trained, shown = undisturbed
    assert shown[-1] == trained.progress
    assert trained.progress["step"] == trained.progress["steps"] == steps_of(TRAIN, TRAINING)
    assert trained.values is not None
    assert np.mean((trained.values - HELD_OUT.labels) ** 2) < np.mean(HELD_OUT.labels**2) / 2
    assert export_difference(trained) < 1e-4
    before, after = (load_file(path / "model.safetensors") for path in (base, trained.directory))
    assert before.keys() == after.keys()
    assert all((before[name] != after[name]).any() for name in before)


def export_difference(trained: Trained) -> float:
    """Between training and plain transformers, at the first state of each held-out sequence."""
    assert trained.values is not None
    first = HELD_OUT.label_starts[:-1]
    ends = HELD_OUT.starts[:-1] + HELD_OUT.positions[first] + 1
    states = [HELD_OUT.ids[start:end].tolist() for start, end in zip(HELD_OUT.starts, ends, strict=False)]
    return verify(trained.directory, states, trained.values[first].tolist())


def test_a_killed_worker_comes_back_to_the_same_bits_from_checkpoints_at_a_uri(
    undisturbed: tuple[Trained, list[dict[str, float]]], base: Path, bucket: str
) -> None:
    work = f"{bucket}/work"
    storage.copy(base, f"{bucket}/base")
    killed: list[int] = []

    def kill_after_the_first_checkpoint() -> None:
        deadline = time.monotonic() + 300
        while not any(name.startswith("checkpoint_") for name in storage.names(f"{work}/fit")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
        workers[-1].kill()
        killed.append(workers[-1].pid)

    killer = threading.Thread(target=kill_after_the_first_checkpoint)
    killer.start()
    resumed, _ = run(f"{bucket}/base", work)
    killer.join()
    assert killed
    assert len(storage.names(f"{work}/tensorboard")) == 2, "the fit ended before the worker was killed"
    expected = load_file(undisturbed[0].directory / "model.safetensors")
    found = load_file(resumed.directory / "model.safetensors")
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert np.array_equal(undisturbed[0].values, resumed.values)

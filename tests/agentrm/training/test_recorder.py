from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrm.config.schema import TrackerKind
from agentrm.training.loop import Progress
from agentrm.training.recorder import Recorder


def test_the_last_step_is_in_the_file_and_every_step_in_tensorboard(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for step in (1, 2, 3):
        recorder(Progress(step, 3, 2.0 / step, 1e-3, 0.5, 100))
    recorder.close()
    state = json.loads((tmp_path / "progress.json").read_text())
    assert state["step"] == state["steps"] == 3
    assert state["loss"] == 2.0 / 3
    assert state["tokens_per_second"] > 0
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert all(
        events.read_bytes().count(tag) == 3 for tag in (b"learning_rate", b"gradient_norm", b"tokens_per_second")
    )


def test_a_fit_that_resumes_goes_on_with_its_runs_in_the_trackers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("WANDB_MODE", "offline"),
        ("WANDB_SILENT", "true"),
        ("WANDB_DIR", str(tmp_path)),
        ("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow"),
        ("MLFLOW_ALLOW_FILE_STORE", "true"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("agentrm.training.recorder._EVERY_S", 0.0)
    for steps in ((1, 2, 3), (2, 3, 4)):
        recorder = Recorder(tmp_path / "first" / "work" / "clone", list(TrackerKind))
        for step in steps:
            recorder(Progress(step, 4, 2.0 / step, 1e-3, None, 100))
        recorder.close()

    from mlflow import MlflowClient

    client = MlflowClient()
    (project,) = client.search_experiments(filter_string="name = 'agentrm'")
    (run,) = client.search_runs([project.experiment_id])
    assert run.info.run_name == "first clone" and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 2.0 / step) for step in (1, 2, 3, 4)]
    attempts = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(attempts) == 2 and len({path.name for path in attempts}) == 1
    assert all(b"tokens_per_second" in path.read_bytes() for path in attempts)

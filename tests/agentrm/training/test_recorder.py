from __future__ import annotations

import json
from pathlib import Path

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

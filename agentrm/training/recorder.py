"""What a person sees of a fit: TensorBoard scalars for every step, and a small file with the state of the fit by
now.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from tensorboardX import SummaryWriter

from agentrm.training.loop import Progress

_EVERY_S = 1.0


class Recorder:
    """Called after every step; writes `<directory>/tensorboard` and, about every second, `<directory>/progress.json`.

    The file holds the latest `Progress` and `tokens_per_second`, over all workers since the fit started or resumed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: SummaryWriter | None = None
        self._started = time.monotonic()
        self._written = 0.0
        self._tokens = 0

    def __call__(self, progress: Progress) -> None:
        """Record one step."""
        if self._writer is None:
            # A resumed fit repeats the steps since its checkpoint: what an earlier attempt wrote of them is dropped.
            self._writer = SummaryWriter(str(self._directory / "tensorboard"), purge_step=progress.step)
        now = time.monotonic()
        self._tokens += progress.tokens
        rate = self._tokens / (now - self._started)
        scalars = {name: value for name, value in asdict(progress).items() if name not in ("step", "steps", "tokens")}
        for name, value in (scalars | {"tokens_per_second": rate}).items():
            if value is not None:
                self._writer.add_scalar(name, value, progress.step)
        if now - self._written >= _EVERY_S or progress.step == progress.steps:
            temporary = self._directory / "progress.json.writing"
            temporary.write_text(json.dumps(asdict(progress) | {"tokens_per_second": rate}))
            temporary.rename(self._directory / "progress.json")
            self._written = now

    def close(self) -> None:
        """Flush the events."""
        if self._writer is not None:
            self._writer.close()

"""What a person sees of a fit: TensorBoard scalars for every step, and a small file with the state of the fit by
now.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from agentrm import storage
from agentrm.config.schema import TrackerKind
from agentrm.training.trackers import Tracker, open_tracker

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

    from agentrm.training.loop import Progress

EVENTS = "tensorboard"
"""The folder with the curves of a fit."""

_PROGRESS = "progress.json"
_EVERY_S = 1.0


def read_progress(location: storage.Location) -> dict[str, float] | None:
    """The latest `Progress` that a `Recorder` wrote there and `tokens_per_second`, over all workers since the fit
    started or resumed; None where it cannot be read now.
    """
    # At a URI the file may be replaced while it is read.
    with suppress(json.JSONDecodeError):
        if (text := storage.read_text(f"{location}/{_PROGRESS}")) is not None:
            return json.loads(text)
    return None


class Recorder:
    """Called after every step; writes `EVENTS` and, about every second, what `read_progress` reads into the location
    `RUN/work/COMMAND`, and to `trackers`.
    """

    def __init__(self, location: storage.Location, trackers: Sequence[TrackerKind] = ()) -> None:
        self._location = location
        self._kinds = trackers
        self._trackers: list[Tracker] = []
        self._events = storage.scratch(location) / EVENTS
        self._writer: SummaryWriter | None = None
        self._started = time.monotonic()
        self._written = 0.0
        self._tokens = 0

    def __call__(self, progress: Progress) -> None:
        """Record one step."""
        if self._writer is None:
            # It imports torch, which those that only read a fit's curves do without.
            from tensorboardX import SummaryWriter

            # A resumed fit repeats the steps since its checkpoint: what an earlier attempt wrote of them is dropped.
            self._writer = SummaryWriter(str(self._events), purge_step=progress.step)
            self._trackers = [
                open_tracker(kind, storage.identity(self._location), self._name()) for kind in self._kinds
            ]
        now = time.monotonic()
        self._tokens += progress.tokens
        rate = self._tokens / (now - self._started)
        scalars = {name: value for name, value in asdict(progress).items() if name not in ("step", "steps", "tokens")}
        scalars = {name: value for name, value in (scalars | {"tokens_per_second": rate}).items() if value is not None}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, progress.step)
        if now - self._written >= _EVERY_S or progress.step == progress.steps:
            text = json.dumps(asdict(progress) | {"tokens_per_second": rate})
            storage.write_text(f"{self._location}/{_PROGRESS}", text)
            for tracker in self._trackers:
                tracker.log(scalars, progress.step)
            self._written = now

    def save(self) -> None:
        """Bring the events to the location, where that is another than this machine's."""
        if self._writer is not None:
            self._writer.flush()
            if storage.is_uri(self._location):
                storage.copy(self._events, f"{self._location}/{EVENTS}")

    def close(self) -> None:
        """Save the events and end."""
        self.save()
        if self._writer is not None:
            self._writer.close()
        for tracker in self._trackers:
            tracker.close()

    def _name(self) -> str:
        run, _, command = storage.absolute(self._location).rsplit("/", 2)
        return f"{storage.name(run)} {command}"

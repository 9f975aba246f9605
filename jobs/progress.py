"""Progress of long work: count, rate, elapsed time and time left, as a bar in a terminal and as lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_S = 10.0


class Bar:
    """Counts finished pieces of work; `counters` are shown beside the count with their latest values."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self.name = name
        self.total = total
        self.done = done
        self._before = done
        self._start = time.monotonic()
        self._counters: dict[str, object] = {}

    def advance(self, n: int = 1, **counters: object) -> None:
        """`n` more pieces are finished."""
        self.done += n
        self._counters.update(counters)
        self._show()

    @property
    def rate(self) -> float:
        """Pieces per second since this bar began; what an earlier run had finished is not counted."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def details(self) -> str:
        """The rate and the counters in one short text."""
        counters = (
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self._counters.items()
        )
        return ", ".join([f"{self.rate:.2f}/s", *counters])

    def close(self) -> None:
        """Show the last state."""

    def _show(self) -> None:
        raise NotImplementedError


class _TerminalBar(Bar):
    def __init__(self, name: str, total: int, done: int, console: Console) -> None:
        super().__init__(name, total, done)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[details]}"),
            console=console,
        )
        self._task = self._progress.add_task(name, total=total, completed=done, details="")
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()

    def _show(self) -> None:
        self._progress.update(self._task, completed=self.done, details=self.details())


class _LineBar(Bar):
    def __init__(self, name: str, total: int, done: int, console: Console) -> None:
        super().__init__(name, total, done)
        self._console = console
        self._shown_at = self._start
        self._shown = -1

    def close(self) -> None:
        if self._shown != self.done:
            self._line()

    def _show(self) -> None:
        if time.monotonic() - self._shown_at >= _LINE_S:
            self._line()

    def _line(self) -> None:
        self._shown_at, self._shown = time.monotonic(), self.done
        elapsed = self._shown_at - self._start
        left = f"{(self.total - self.done) / self.rate:.0f} s" if self.rate > 0 else "?"
        self._console.print(
            f"{self.name} {self.done}/{self.total} elapsed {elapsed:.0f} s, left {left}, {self.details()}",
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def progress(name: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show `total` pieces of work on stderr, `done` of which an earlier run has finished.

    Without a terminal it prints a line about every ten seconds and one at the end.
    """
    console = Console(file=sys.stderr)
    bar = (_TerminalBar if console.is_terminal else _LineBar)(name, total, done, console)
    try:
        yield bar
    finally:
        bar.close()

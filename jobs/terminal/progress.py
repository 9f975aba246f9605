"""Progress of long work: count, rate, elapsed time and time left, as a bar in a terminal and as lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

_LINE_S = 10.0


class Estimate:
    """The time that pieces of work still take, which begin in their order, `lanes` of them under way at a time.

    `works` are the sizes that they are expected to have, in any unit.
    """

    def __init__(self, works: Sequence[float], lanes: int) -> None:
        self._begun = list(accumulate(works, initial=0.0))
        self._lanes = max(1, min(lanes, len(works)))

    def seconds(self, done: int, before: int, elapsed: float) -> float | None:
        """Seconds that are left when `done` pieces are finished, all but the first `before` of them in the last
        `elapsed` seconds. None until half of the lanes have finished one: the first to end tell nothing of the others.
        """
        last = len(self._begun) - 1
        if done >= last:
            return 0.0
        if done - before < max(1, self._lanes / 2):
            return None
        # When one ends, and another begins, the others that are under way are half done on average.
        under_way = self._begun[min(done + self._lanes, last)] - self._begun[done]
        now = self._begun[done] + under_way * (self._lanes - 1) / self._lanes / 2
        # Lanes that find no more work do not make the others faster.
        idle = self._lanes / min(self._lanes, last - done)
        return elapsed * (self._begun[-1] - now) / (now - self._begun[before]) * idle


class Bar:
    """Counts finished pieces of work; `counters` are shown beside the count with their latest values."""

    def __init__(self, name: str, total: int, estimate: Estimate) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self._estimate = estimate
        self._before = 0
        self._opened = self._start = self._at = monotonic()
        self._left: float | None = None
        self._counters: dict[str, object] = {}

    def resume(self, done: int) -> None:
        """Rate and time left are counted from here, where `done` pieces are finished: what it took to start, and what
        an earlier run did, say nothing of the rest.
        """
        self.done = self._before = done
        self._start = monotonic()

    def advance(self, n: int = 1, **counters: object) -> None:
        """`n` more pieces are finished."""
        self.done += n
        self._counters.update(counters)
        self._at = monotonic()
        self._left = self._estimate.seconds(self.done, self._before, self._at - self._start)
        self._show()

    @property
    def rate(self) -> float:
        """Pieces per second since this bar began, or resumed."""
        return (self.done - self._before) / max(monotonic() - self._start, 1e-9)

    def left(self) -> str:
        """The time that is left by the last estimate, "?" without one."""
        if self._left is None:
            return "?"
        seconds = max(0.0, self._left - (monotonic() - self._at))
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

    def details(self) -> str:
        """The rate and the counters in one short text."""
        counters = (
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self._counters.items()
        )
        rate = [f"{self.rate:.2f}/s"] if self.done > self._before else []
        return ", ".join([*rate, *counters])

    def close(self) -> None:
        """Show the last state."""

    def _show(self) -> None:
        raise NotImplementedError


class _TerminalBar(Bar):
    def __init__(self, name: str, total: int, estimate: Estimate, console: Console) -> None:
        super().__init__(name, total, estimate)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _TimeLeft(self),
            TextColumn("[dim]{task.fields[details]}"),
            console=console,
        )
        self._task = self._progress.add_task(name, total=total, details="")
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()

    def _show(self) -> None:
        self._progress.update(self._task, completed=self.done, details=self.details())


class _TimeLeft(ProgressColumn):
    """Counts down from a bar's last estimate to its next one."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:
        return Text(f"left {self._bar.left()}")


class _LineBar(Bar):
    def __init__(self, name: str, total: int, estimate: Estimate, console: Console) -> None:
        super().__init__(name, total, estimate)
        self._console = console
        self._shown_at = self._opened
        self._shown = -1

    def close(self) -> None:
        if self._shown != self.done:
            self._line()

    def _show(self) -> None:
        if monotonic() - self._shown_at >= _LINE_S:
            self._line()

    def _line(self) -> None:
        self._shown_at, self._shown = monotonic(), self.done
        elapsed = self._shown_at - self._opened
        self._console.print(
            f"{self.name} {self.done}/{self.total} elapsed {elapsed:.0f} s, left {self.left()}, {self.details()}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


@contextmanager
def progress(name: str, total: int, works: Sequence[float] = (), lanes: int = 1) -> Iterator[Bar]:
    """Show `total` pieces of work on stderr, `lanes` of which are under way at a time; `works` are the sizes that they
    are expected to have, in the order in which they begin (none given: all alike).

    Without a terminal it prints a line about every ten seconds and one at the end.
    """
    console = Console(file=sys.stderr)
    estimate = Estimate(works or [1.0] * total, lanes)
    bar = (_TerminalBar if console.is_terminal else _LineBar)(name, total, estimate, console)
    try:
        yield bar
    finally:
        bar.close()

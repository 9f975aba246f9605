"""Progress as lines and as a bar, and the time that is left by a clock of the test's own."""

from __future__ import annotations

import heapq
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from random import Random

import pytest

from jobs.terminal import progress as progress_module
from jobs.terminal.progress import progress

WORKS = {
    "large trees first": ([400.0] * 100 + [50.0] * 900, 64),
    "alike": ([50.0] * 1000, 64),
    "two for each lane": ([50.0] * 32, 16),
    "one after the other": ([50.0] * 100, 1),
    "few": ([90.0] * 2 + [30.0] * 8, 3),
}


class Clock:
    """What `monotonic` says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "monotonic", clock)
    monkeypatch.setattr(progress_module, "_LINE_S", 0.0)
    return clock


def ends(works: Sequence[float], lanes: int) -> list[float]:
    """When each of some pieces of work ends that take about their time, after 20 s in which the lanes start."""
    draw, waiting, found = Random(0), list(works[::-1]), []
    running = [20.0] * lanes
    while running:
        now = heapq.heappop(running)
        found.append(now)
        if waiting:
            heapq.heappush(running, now + waiting.pop() * draw.uniform(0.7, 1.3))
    return found[lanes:]


def seconds(left: str) -> float:
    amount, unit = left.split()
    return float(amount) * {"s": 1, "min": 60}[unit]


@pytest.mark.parametrize("name", WORKS)
def test_the_time_left_is_believable_as_soon_as_it_is_told(
    name: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    works, lanes = WORKS[name]
    times = ends(works, lanes)
    with progress("trees", len(works), works, lanes) as bar:
        for clock.now in times:
            bar.advance()
    told = [line.split("left ")[1].split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert told[-1] == "0 s" and len(told) == len(times)
    known = [(seconds(left), times[-1] - now) for left, now in zip(told, times, strict=True) if left != "?"]
    whole = times[-1]
    assert known[0][1] > 0.4 * whole, "it is told late"
    for estimated, true in known:
        assert 0.5 * true - 0.1 * whole < estimated < 2 * true + 0.3 * whole, (name, true)


def test_the_first_to_end_tell_nothing_of_the_others(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("trees", 100, lanes=8) as bar:
        for clock.now in (1.0, 1.0, 1.0, 60.0):
            bar.advance()
    first = [line.split("left ")[1].split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert first[:3] == ["?"] * 3 and first[3] != "?"


def test_what_came_before_a_fit_goes_on_is_not_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("steps", 100) as bar:
        clock.now = 500.0
        bar.resume(40)
        bar.advance(0, loss=0.5)
        clock.now = 510.0
        bar.advance(10)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "steps 40/100 elapsed 500 s, left ?, loss 0.5"
    assert last == "steps 50/100 elapsed 510 s, left 50 s, 1.00/s, loss 0.5"


def test_the_time_left_runs_between_two_pieces(clock: Clock) -> None:
    with progress("steps", 100) as bar:
        clock.now = 10.0
        bar.advance()
        assert bar.left() == "16 min"
        clock.now = 930.0
        assert bar.left() == "70 s"
        clock.now = 9999.0
        assert bar.left() == "0 s"


def test_progress_without_a_terminal_is_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_LINE_S", 0.0)
    with progress("trees", 5) as bar:
        bar.resume(2)
        bar.advance(1, outcome=0.51234)
        bar.advance(2, failed=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" elapsed")[0] for line in lines] == ["trees 3/5", "trees 5/5"]
    assert lines[0].endswith("outcome 0.512")
    assert "left 0 s" in lines[1]
    assert lines[1].endswith("outcome 0.512, failed 1")


def test_progress_shows_the_last_count_once_when_work_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("tasks", 3) as bar:
        for _ in range(3):
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tasks 3/3")


def test_progress_in_a_terminal_is_a_bar() -> None:
    command = "from jobs.terminal.progress import progress\n"
    command += "with progress('trees', 2) as bar:\n bar.advance(1, won=1)\n bar.advance(1)"
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", command], stderr=side)
    assert process.wait(60) == 0
    os.set_blocking(main, False)
    shown = os.read(main, 65536).decode()
    assert "2/2" in shown
    assert "won 1" in shown
    assert "━" in shown

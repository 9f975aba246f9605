"""Searchers on a real cluster, with a scripted policy and environment: killed ones lose nothing and change no row, and
they come and go with their backlog.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors import scaling
from actors.fleet import Fleet, Size
from actors.scaling import scaled
from actors.scripted import ScriptedSearcher, scripted_evaluator
from actors.workers import Workers
from agentrm.config.loading import load
from agentrm.config.schema import Evaluate
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import methods
from agentrm.evaluation.results import Results
from agentrm.failures import Failures
from jobs.benchmarks import searchers as benchmark
from jobs.evaluate import Work, evaluate

SETTINGS = Evaluate(n=3, width=2, branches=2, concurrency=3)
LABELS = methods(SETTINGS)
TASKS: list[Work] = [(Task("maze", "corridor", "test", number), "held-in") for number in range(80)]
_DEADLINE_S = 300


def fleet(size: Size, folder: Path) -> Fleet:
    return Fleet.start(ScriptedSearcher, size, {"num_cpus": 0.1}, SETTINGS, 0, str(folder))


async def search(searchers: Fleet, folder: Path, todo: list[Work]) -> None:
    """The evaluation, during which each of the first members is killed once, when some more tasks are there."""
    workers, results = Workers(searchers, SETTINGS.concurrency), Results(folder, LABELS)
    asked = [each.__ray_call__.remote(lambda self: os.getpid()) for each in searchers.handles]
    processes = [psutil.Process(pid) for pid in await asyncio.gather(*asked)]

    async def kill() -> None:
        for number, process in enumerate(processes, start=1):
            while len(results.finished()) < 10 * number:
                await asyncio.sleep(0.005)
            process.kill()
            assert len(results.finished()) < len(todo)

    async with scaled({searchers: workers.load}, workers.tell):
        killing = asyncio.create_task(kill())
        failures = Failures(folder.with_name("failures"))
        await evaluate(todo, workers.work, SETTINGS.concurrency * len(processes), results, failures)
        await killing


def without_seconds(rows: dict[str, Any]) -> dict[str, Any]:
    return {method: {name: value for name, value in row.items() if name != "seconds"} for method, row in rows.items()}


def test_killed_searchers_lose_nothing_and_change_no_row(tmp_path: Path) -> None:
    results = Results(tmp_path / "done", LABELS)
    with fleet(Size.of(2, None, SETTINGS.concurrency), tmp_path / "done") as searchers:
        asyncio.run(search(searchers, tmp_path / "done", TASKS))
    # One that was killed while it wrote leaves a hidden file.
    assert results.missing(TASKS) == [] and len(results.finished()) == len(TASKS)
    alone = scripted_evaluator(SETTINGS, 0)
    for task, group in TASKS:
        expected = asyncio.run(alone.rows(group, task, {}))
        assert without_seconds(results.rows(task)) == without_seconds(expected)


def test_searchers_come_with_the_backlog_and_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "TICK_S", 0.1)
    monkeypatch.setattr(scaling, "IDLE_S", 0.5)
    sizes: list[int] = []

    async def until(size: int, searchers: Fleet) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while len(searchers.names) != size:
            assert time.monotonic() < deadline, f"{len(searchers.names)} serve"
            await asyncio.sleep(0.05)
        sizes.append(size)

    async def follow(searchers: Fleet) -> None:
        workers, number = Workers(searchers, SETTINGS.concurrency), 0
        busy = True

        async def lane() -> None:
            nonlocal number
            while busy:
                number += 1
                await workers.work(Task("maze", "corridor", "test", number), "held-in")

        async with scaled({searchers: workers.load}, workers.tell):
            await workers.work(TASKS[0][0], "held-in")
            lanes = [asyncio.create_task(lane()) for _ in range(4 * SETTINGS.concurrency)]
            await until(4, searchers)
            busy = False
            await asyncio.gather(*lanes)
            await until(1, searchers)

    with fleet(Size(1, 4, SETTINGS.concurrency), tmp_path) as searchers:
        asyncio.run(follow(searchers))
    assert sizes == [4, 1]


@pytest.mark.benchmark
def test_the_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load("quickstart", [f"run={tmp_path / 'run'}"])
    benchmark.run(config, 20, as_json=True)
    figures = json.loads(capsys.readouterr().out)
    here, one, two = figures["arms"]
    assert one["episodes"] == 20 * len(methods(config.evaluate)) == 10 * here["episodes"] == 10 * two["episodes"]
    assert (here["searchers"], one["searchers"], two["searchers"]) == (0, 1, 2)
    assert here["searchers_s"] == 0 < one["searchers_s"]
    shares = [arm["driver_s"] / arm["episodes"] for arm in (one, here)]
    assert figures["driver_share"] == pytest.approx(shares[0] / shares[1])
    assert not (tmp_path / "run").exists()

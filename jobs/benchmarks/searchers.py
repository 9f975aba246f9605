"""What an evaluation costs beside its models and environments: these are scripted here and answer at once.

    agentrm benchmark searchers --tasks 1120 --json

All searches of `evaluate.methods`, with their baselines: (b) of all tasks by one searcher, which gets them from this
process; before it, a tenth of them (a) in this process, as a driver that searched itself would, and after it (c) by two
searchers. An episode is the one that a
method chose on a task. `driver_share` is the processor time of this process per episode in (b), by that in (a), which
pays for no messages to models; `growth_mb` is what this process grew by in (b) after the first tenth of the tasks. The
run directory is not touched.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from actors.fleet import Fleet, Size
from actors.scaling import scaled
from actors.scripted import ScriptedSearcher, scripted_evaluator
from actors.workers import Workers
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import methods
from agentrm.evaluation.results import Results
from jobs.attempts import Advance, Do, spread
from jobs.evaluate import Work, searching
from jobs.runtime import cluster, main


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of searching `episodes`: processor seconds of this process and of the searchers, and the growth of this
    process in MB.
    """

    name: str
    searchers: int
    episodes: int
    seconds: float
    driver_s: float
    searchers_s: float
    growth_mb: float

    @property
    def rate(self) -> float:
        """Episodes per second and process that searches."""
        return self.episodes / self.seconds / max(self.searchers, 1)


def run(config: Config, count: int = 1120, as_json: bool = False) -> dict[str, Any]:
    """Measure `count` tasks; prints and returns all figures."""
    todo = [(Task("maze", "corridor", "test", number), "held-in") for number in range(count)]
    # Ray reports what goes wrong in its actors on stdout, which belongs to the figures.
    with redirect_stdout(sys.stderr), cluster(config):
        arms = [
            asyncio.run(_here(config, todo[: count // 10])),
            asyncio.run(_fleet(config, todo, 1)),
            asyncio.run(_fleet(config, todo[: count // 10], 2)),
        ]
    driver, one, two = arms
    figures = {
        "driver_share": (one.driver_s / one.episodes) / (driver.driver_s / driver.episodes),
        "rate_of_driver": one.rate / driver.rate,
        "speedup_two": two.rate * 2 / one.rate,
        "cpu_of_two": (two.searchers_s / two.episodes) / (one.searchers_s / one.episodes),
        "growth_mb": one.growth_mb,
        "arms": [asdict(arm) for arm in arms],
    }
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures, arms)
    return figures


async def _here(config: Config, todo: list[Work]) -> Arm:
    evaluator = scripted_evaluator(config.evaluate, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        results = Results(folder, methods(config.evaluate))

        async def do(task: Task, group: str) -> Mapping[str, Any]:
            rows = await evaluator.rows(group, task, {})
            await asyncio.to_thread(results.write, task, rows)
            return {"searches": len(rows)}

        return await _measured("in the driver", config, todo, do, None)


async def _fleet(config: Config, todo: list[Work], count: int) -> Arm:
    lanes = config.evaluate.concurrency
    options = actor_options(config, Role.environments)
    with (
        tempfile.TemporaryDirectory() as folder,
        Fleet.start(
            ScriptedSearcher, Size.of(count, None, lanes), options, config.evaluate, config.seed, folder
        ) as fleet,
    ):
        searchers = Workers(fleet, lanes)
        async with scaled({fleet: searchers.load}, searchers.tell):
            return await _measured(f"{count} searchers", config, todo, searchers.work, fleet)


async def _measured(name: str, config: Config, todo: list[Work], do: Do[str], fleet: Fleet | None) -> Arm:
    """One arm, from when all searchers have started."""
    process, first = psutil.Process(), len(todo) // 10
    lanes = config.evaluate.concurrency * max(len(fleet.names) if fleet else 0, 1)
    before = await _cpu_seconds(fleet)
    started, cpu, held = time.monotonic(), time.process_time(), [0.0]
    done = 0
    with searching(todo, lanes) as show:

        def advance(group: str, total: Counter[str]) -> None:
            nonlocal done
            done += 1
            if done == first:
                held[0] = process.memory_info().rss / 2**20
            show(group, total)

        shown: Advance[str] = advance
        total = await spread(todo, do, lanes, shown)
    return Arm(
        name=name,
        searchers=len(fleet.names) if fleet else 0,
        episodes=int(total["searches"]),
        seconds=time.monotonic() - started,
        driver_s=time.process_time() - cpu,
        searchers_s=await _cpu_seconds(fleet) - before,
        growth_mb=process.memory_info().rss / 2**20 - held[0],
    )


async def _cpu_seconds(fleet: Fleet | None) -> float:
    return sum(await asyncio.gather(*(handle.cpu_seconds.remote() for handle in fleet.handles))) if fleet else 0.0


def _show(figures: dict[str, Any], arms: list[Arm]) -> None:
    columns = "", "episodes/s", "driver, ms/episode", "searchers, ms/episode", "driver grew, MB"
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for arm in arms:
        own, others = (f"{1000 * seconds / arm.episodes:.2f}" for seconds in (arm.driver_s, arm.searchers_s))
        table.add_row(arm.name, f"{arm.episodes / arm.seconds:,.0f}", own, others, f"{arm.growth_mb:.1f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{arms[1].episodes:,} episodes; the driver's share of what it would take for searching itself "
        f"{figures['driver_share']:.3f}; a searcher reaches {figures['rate_of_driver']:.2f} of its rate, two "
        f"{figures['speedup_two']:.2f} times one, with {figures['cpu_of_two']:.2f} times the processor time"
    )


if __name__ == "__main__":
    main(run)

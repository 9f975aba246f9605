"""What an environment costs here, and how often its oracle succeeds."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any, TypedDict

import psutil

from agentrm.core.task import Task
from agentrm.environments.base import Environment
from agentrm.environments.registry import environment_class, make

TASKS = 24
SESSIONS = 32


class Measurement(TypedDict, total=False):
    """Medians over `measured_tasks` tasks of the test split, of as many kinds as there are.

    `first_reset_ms`: starting a task for the first time, which may generate it; `reset_ms`: starting it again;
    `step_ms`: one action of the oracle; `session_bytes`: memory of its own that one more live session takes, in this
    process and those that it started; `oracle_success`: the share of the tasks that the oracle solves.
    """

    measured_tasks: int
    first_reset_ms: float
    reset_ms: float
    step_ms: float
    session_bytes: int
    oracle_success: float


def measure(name: str) -> Measurement:
    """Play the oracle's solution of each task on a real engine. Raises UserError when it cannot start."""
    tasks = chosen_tasks(environment_class(name))
    first_resets, resets, steps = [], [], []
    solved = 0
    environment = make(name)
    try:
        # The engine's own warming up (class loading, imports, caches) is no task's cost.
        environment.reset(tasks[0])
        for task in tasks:
            first_resets.append(_milliseconds(environment.reset, task))
            actions = environment.expert_actions()
            resets.append(_milliseconds(environment.reset, task))
            steps += [_milliseconds(environment.step, action) for action in actions]
            solved += environment.grade().success
        size = session_bytes(name, tasks)
    finally:
        environment.close()
    return {
        "measured_tasks": len(tasks),
        "first_reset_ms": median(first_resets),
        "reset_ms": median(resets),
        "step_ms": median(steps),
        "session_bytes": size,
        "oracle_success": solved / len(tasks),
    }


def chosen_tasks(cls: type[Environment]) -> list[Task]:
    """Up to TASKS tasks of the test split: the first of each kind, or of kinds evenly chosen, then the second."""
    rounds = -(-TASKS // len(cls.kinds))
    kinds = cls.kinds if rounds > 1 else [cls.kinds[number * len(cls.kinds) // TASKS] for number in range(TASKS)]
    every = [
        cls.task(kind, "test", index) for index in range(rounds) for kind in kinds if index < cls.size(kind, "test")
    ]
    return every[:TASKS]


def session_bytes(name: str, tasks: list[Task]) -> int:
    """The growth of memory per live session, from one to SESSIONS more, each in the first state of one of the tasks.

    It is the growth of the processes, or of what Python allocated where that fits into memory that was free before;
    what fits into a Java heap that was free before does not show.
    """
    live: list[Environment] = []
    tracemalloc.start()
    before = _memory()
    try:
        for number in range(SESSIONS + 1):
            live.append(make(name))
            live[-1].reset(tasks[number % len(tasks)])
            if number == 0:
                before = _memory()
        return max(0, *(now - then for now, then in zip(_memory(), before, strict=True))) // SESSIONS
    finally:
        tracemalloc.stop()
        for environment in live:
            environment.close()


def _memory() -> tuple[int, int]:
    """Bytes that this process and those that it started use alone, and bytes that Python allocated since tracing."""
    gc.collect()
    this = psutil.Process()
    own = sum(process.memory_full_info().uss for process in [this, *this.children(recursive=True)])
    return own, tracemalloc.get_traced_memory()[0]


def _milliseconds(function: Callable[[Any], object], argument: object) -> float:
    started = time.perf_counter()
    function(argument)
    return (time.perf_counter() - started) * 1e3

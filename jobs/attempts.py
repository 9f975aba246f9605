"""Work on tasks until each is done or given up: what trees and evaluations have in common."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from agentrm.core.errors import AgentRMError, EnvironmentFailure, ModelError, UserError
from agentrm.core.task import Task
from agentrm.failures import Failures

What = TypeVar("What")
Do = Callable[[Task, What], Awaitable[Mapping[str, Any]]]
"""Does what is asked for of a task; returns `actors.workers.Counts`."""
Advance = Callable[[What, Counter[str]], None]
"""Shows that this was done, and what all of it has counted so far."""


class Store(Protocol[What]):
    """Where what is done is committed."""

    def finished(self) -> set[str]:
        """Ids of what is there."""
        ...

    def missing(self, todo: Iterable[tuple[Task, What]]) -> list[tuple[Task, What]]:
        """What is not there of what is asked for."""
        ...


async def spread(todo: Iterable[tuple[Task, What]], do: Do[What], lanes: int, advance: Advance[What]) -> Counter[str]:
    """Keep `do` at `lanes` tasks until none is left; returns the summed counts, and under `failed` of how many tasks
    something is undone.

    Nothing of a task is held once it is done.
    """
    total: Counter[str] = Counter()
    queue = iter(todo)

    async def feed() -> None:
        for task, what in queue:
            counts = await do(task, what)
            if "failed" in counts:
                total["failed"] += 1
                print(f"{task.id} failed: {counts['failed']}", file=sys.stderr)
            total.update({name: count for name, count in counts.items() if name != "failed"})
            advance(what, total)

    await asyncio.gather(*(feed() for _ in range(lanes)))
    return total


async def attempts(
    todo: Sequence[tuple[Task, What]],
    do: Do[What],
    lanes: int,
    store: Store[What],
    failures: Failures,
    shown: Callable[[Sequence[tuple[Task, What]]], AbstractContextManager[Advance[What]]],
) -> tuple[Counter[str], list[ModelError]]:
    """`spread` until every task is done, is given up because its environment failed it as often as `failures` has it,
    or is left for the next run because of a model; returns the summed counts, and those errors of models.

    `shown` gives what shows a round. Raises what was the cause where the store is still empty: then no failure is
    counted. Raises UserError in the end for tasks that no machine may play, such as those of data that one lacks, and
    what `do` raises at once.
    """
    failed: dict[Task, AgentRMError] = {}
    refused: list[UserError] = []
    unanswered: list[ModelError] = []
    total: Counter[str] = Counter()

    async def one(task: Task, what: What) -> Mapping[str, Any]:
        counts = await do(task, what)
        if "failed" in counts:
            failed[task] = counts["failed"]
        return counts

    while todo:
        failed.clear()
        with shown(todo) as advance:
            total.update(await spread(todo, one, lanes, advance))
        broken = {task: error for task, error in failed.items() if isinstance(error, EnvironmentFailure)}
        others = [error for task, error in failed.items() if task not in broken]
        if failed and not store.finished():
            told = f"all {len(failed)} tasks failed in their environment: {next(iter(failed.values()))}"
            raise others[0] if others else EnvironmentFailure(told)
        for task, error in broken.items():
            failures.record(task, str(error))
        refused += [error for error in others if isinstance(error, UserError)]
        unanswered += [error for error in others if isinstance(error, ModelError)]
        again = [(task, what) for task, what in todo if task in broken and task.id not in failures.given_up]
        todo = store.missing(again)
    if refused:
        raise refused[0]
    return total, unanswered

"""Scheduling of trees: what is missing, every builder busy, and no memory that grows with the number of trees."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agentrm.config.schema import MeasuredTrees, Trees
from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.core.state import Proposal, State
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.failures import Failures
from agentrm.search.mcts import TreeSearch
from jobs.attempts import Advance, attempts, spread
from jobs.trees import Work, growing, largest_first
from tests.agentrm.search.toy import BARE
from tests.local import Local

TASKS = [Task("maze", "perfect_small", "train", index) for index in range(4)]


def work(tasks: Sequence[Task], trees_per_task: int) -> list[Work]:
    return [(task, range(trees_per_task)) for task in tasks]


def test_only_missing_trees_are_work(tmp_path: Path) -> None:
    store = TreeStore(tmp_path)
    for task, number in ((TASKS[0], 0), (TASKS[0], 1), (TASKS[1], 1)):
        store.write(Tree(task, [Node(-1, 0, "", visits=1)], number=number))
    assert store.missing(work(TASKS[:3], 2)) == [(TASKS[1], [0]), (TASKS[2], [0, 1])]
    assert store.missing(work(TASKS[:2], 1)) == [(TASKS[1], [0])]


def test_the_largest_trees_come_first() -> None:
    search = Trees(iterations=1, test=MeasuredTrees(iterations=2, rollouts=3))
    measured = Task("maze", "perfect_small", "valid", 0)
    todo = [(TASKS[0], [0]), (measured, [0]), (TASKS[1], [0, 1]), (TASKS[2], [1])]
    assert largest_first(todo, search) == [(measured, [0]), (TASKS[1], [0, 1]), (TASKS[0], [0]), (TASKS[2], [1])]


def test_all_lanes_work_until_none_is_left() -> None:
    running = most = 0
    built: list[Task] = []

    async def build(task: Task, numbers: Sequence[int]) -> dict[str, Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        built.append(task)
        return (
            {"failed": EnvironmentFailure("it broke")}
            if task.index == 3
            else {"trees": len(numbers), "nodes": 5, "rollouts": 2}
        )

    todo = work([Task("maze", "perfect_small", "train", index) for index in range(20)], 1)
    with shown(todo) as advance:
        total = asyncio.run(spread(todo, build, 6, advance))
    assert most == 6 and sorted(built) == [task for task, _ in todo]
    assert total == {"failed": 1, "trees": 19, "nodes": 95, "rollouts": 38}


def shown(todo: Sequence[Work]) -> AbstractContextManager[Advance[Sequence[int]]]:
    return growing("trees", todo, Trees(), 2)


def test_a_task_that_fails_for_ever_is_counted_and_never_tried_again(tmp_path: Path) -> None:
    store, tried = TreeStore(tmp_path / "trees"), Counter[Task]()

    async def build(task: Task, numbers: Sequence[int]) -> dict[str, Any]:
        tried[task] += 1
        for number in numbers:
            if task == TASKS[0] or (task == TASKS[1] and number == 1 and tried[task] == 1):
                return {"trees": number, "failed": EnvironmentFailure("it broke")}
            store.write(Tree(task, [Node(-1, 0, "", visits=1)], number=number))
        return {"trees": len(numbers)}

    def grow() -> int:
        failures = Failures(tmp_path / "failures")
        todo = store.missing(work([task for task in TASKS if task.id not in failures.given_up], 2))
        total, unanswered = asyncio.run(attempts(todo, build, 2, store, failures, shown))
        assert list(failures.given_up) == [TASKS[0].id] and not unanswered
        return total["trees"]

    assert grow() == 6
    assert [tried[task] for task in TASKS] == [3, 2, 1, 1]
    assert grow() == 0
    assert tried[TASKS[0]] == 3


def test_where_nothing_grows_no_failure_is_counted(tmp_path: Path) -> None:
    async def build(task: Task, numbers: Sequence[int]) -> dict[str, Any]:
        return {"failed": EnvironmentFailure("it broke")}

    store, failures = TreeStore(tmp_path / "trees"), Failures(tmp_path / "failures")
    with pytest.raises(EnvironmentFailure, match="all 4 tasks failed in their environment: it broke"):
        asyncio.run(attempts(work(TASKS, 1), build, 2, store, failures, shown))
    assert failures.given_up == {} and not (tmp_path / "failures").exists()


def test_a_task_that_no_machine_may_play_is_the_users_error_once_the_others_are_grown(tmp_path: Path) -> None:
    store, failures = TreeStore(tmp_path / "trees"), Failures(tmp_path / "failures")

    async def build(task: Task, numbers: Sequence[int]) -> dict[str, Any]:
        if task == TASKS[0]:
            return {"failed": UserError("the data is not here")}
        store.write(Tree(task, [Node(-1, 0, "", visits=1)]))
        return {"trees": 1}

    with pytest.raises(UserError, match="the data is not here"):
        asyncio.run(attempts(work(TASKS, 1), build, 1, store, failures, shown))
    assert store.finished() == {task.id for task in TASKS[1:]} and not (tmp_path / "failures").exists()


class Wanderer:
    """Moves at random, by seed and state."""

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        draw = Random(f"{seed}|{state.task.id}|{state.actions}")
        actions = [f"move {draw.choice(('up', 'down', 'left', 'right'))}" for _ in range(n)]
        return [Proposal(action, action, logprob=-1.4, tokens=2) for action in actions]


def test_memory_does_not_grow_with_the_number_of_trees(tmp_path: Path) -> None:
    """Driver and builder in one process: what is allocated after 20 trees and after 200."""
    local, store = Local(), TreeStore(tmp_path)
    search = TreeSearch(Wanderer(), local, local, Trees(iterations=2, simulations=2, max_depth=4), BARE)
    held: dict[int, int] = {}

    async def build(task: Task, numbers: Sequence[int]) -> dict[str, Any]:
        tree = await search.grow(task)
        store.write(tree)
        if task.index in (20, 200):
            gc.collect()
            held[task.index] = tracemalloc.get_traced_memory()[0]
        return {"trees": 1, "nodes": len(tree.nodes), "rollouts": tree.nodes[0].visits}

    def endless() -> Any:
        for index in range(201):
            item: Work = (Task("maze", "double_t", "test", index % 25), [0])
            yield (Task("maze", "double_t", "train", index), [0]) if index in (20, 200) else item

    tracemalloc.start()
    try:
        with shown([]) as advance:
            total = asyncio.run(spread(endless(), build, 8, advance))
    finally:
        tracemalloc.stop()
    assert total["trees"] == 201
    # A tree of this size takes some 30 kB while it grows.
    assert held[200] - held[20] < 100_000

"""What a builder holds after many trees of a real environment: nothing of those that have ended."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path
from random import Random

from agentrm.config.schema import Search
from agentrm.data.trees import TreeStore
from agentrm.environments.base import Grade, Observation, Task
from agentrm.environments.sessions import SessionPool
from agentrm.models.state import Proposal, State
from agentrm.search.mcts import TreeSearch
from tests.agentrm.search.toy import BARE

TASKS = 5


class Walker:
    """Moves at random."""

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        draw = Random(f"{seed}|{state.actions}")
        actions = [f"move {draw.choice(['up', 'down', 'left', 'right'])}" for _ in range(n)]
        return [Proposal(action, action, logprob=-1.386, tokens=2) for action in actions]


class Pool:
    """`BranchingSessions` and `Grader` over engines of this process."""

    def __init__(self) -> None:
        self._pool = SessionPool(max_sessions=8, max_snapshots=32, max_memories=64)

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        return self._pool.observe(task, actions)

    async def fingerprint(self, task: Task, actions: tuple[str, ...]) -> str:
        return self._pool.fingerprint(task, actions)

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        return self._pool.grade(task, actions)


def test_ended_trees_are_let_go(tmp_path: Path):
    pool, store = Pool(), TreeStore(tmp_path)
    search = TreeSearch(Walker(), pool, pool, Search(iterations=3, expansions=3, max_depth=8), BARE)

    def grow(number: int):
        tree = asyncio.run(search.grow(Task("maze", "perfect_small", "train", number % TASKS), number))
        store.write(tree)
        return tree

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        for number in range(4 * TASKS):
            grow(number)
        before = held()
        tree = grow(4 * TASKS)
        size = held() - before
        del tree
        before = held()
        for number in range(5 * TASKS, 25 * TASKS):
            grow(number)
        assert size > 10_000
        assert held() - before < 5 * size
    finally:
        tracemalloc.stop()

"""Environments in this process, by the protocols that are met by actors elsewhere."""

from __future__ import annotations

import asyncio

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.hosting.sessions import SessionPool


class Local:
    """Sessions, grader and expert over one pool."""

    def __init__(self) -> None:
        self.pool = SessionPool(max_sessions=4, max_snapshots=16, max_memories=64)

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        await asyncio.sleep(0)
        return self.pool.observe(task, actions)

    async def fingerprint(self, task: Task, actions: tuple[str, ...]) -> str:
        return self.pool.fingerprint(task, actions)

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        return self.pool.grade(task, actions)

    async def expert_actions(self, task: Task) -> list[str]:
        return self.pool.expert_actions(task)

    async def expert_thoughts(self, task: Task, actions: tuple[str, ...]) -> list[str]:
        return self.pool.expert_thoughts(task, actions)

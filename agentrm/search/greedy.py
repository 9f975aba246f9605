"""Greedy decoding: one episode at temperature 0, the paper's baseline."""

from __future__ import annotations

from agentrm.environments.base import Task
from agentrm.models.base import Policy, Sessions
from agentrm.search.episode import Opening, begin, rollout
from agentrm.search.result import Metered, Result


async def greedy(task: Task, policy: Policy, sessions: Sessions, *, max_depth: int, opening: Opening) -> Result:
    """The episode of the most likely actions. Raises EnvironmentFailure."""
    metered = Metered(policy, sessions)
    state = await begin(task, metered, opening)
    return metered.result(await rollout(state, metered, metered, max_depth, greedy=True), None)

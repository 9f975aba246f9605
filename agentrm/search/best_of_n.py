"""Best-of-N: sample N whole episodes, keep the one whose final state scores highest (paper, section 3; N = 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentrm.environments.base import Task
from agentrm.models.base import Policy, RewardModel, Sessions
from agentrm.search.episode import Opening, begin, rollout
from agentrm.search.result import Cost, Metered, Result


async def sample(
    task: Task, policy: Policy, sessions: Sessions, n: int, *, max_depth: int, opening: Opening
) -> list[Result]:
    """`n` independently sampled episodes. Raises EnvironmentFailure."""

    async def one(number: int) -> Result:
        metered = Metered(policy, sessions)
        state = await begin(task, metered, opening)
        return metered.result(await rollout(state, metered, metered, max_depth, seed=number), None)

    return list(await asyncio.gather(*(one(number) for number in range(n))))


async def best_of(candidates: Sequence[Result], reward_model: RewardModel) -> Result:
    """The candidate with the highest score, the first of equals; its cost is that of all candidates."""
    scores = await reward_model.score([candidate.state for candidate in candidates])
    best = max(range(len(candidates)), key=lambda i: scores[i])
    cost = sum((candidate.cost for candidate in candidates), Cost())
    cost.seconds = max(candidate.cost.seconds for candidate in candidates)
    cost.scored_states += len(candidates)
    return Result(candidates[best].state, scores[best], cost)


async def best_of_n(
    task: Task,
    policy: Policy,
    sessions: Sessions,
    reward_model: RewardModel,
    n: int,
    *,
    max_depth: int,
    opening: Opening,
) -> Result:
    """Sample and choose."""
    candidates = await sample(task, policy, sessions, n, max_depth=max_depth, opening=opening)
    return await best_of(candidates, reward_model)

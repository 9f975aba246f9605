"""Step-level beam search (paper, section 3): keep the W1 best states, expand each by W2 actions, until all end."""

from __future__ import annotations

import asyncio

from agentrm.environments.base import Task
from agentrm.errors import ContextOverflow
from agentrm.models.base import Policy, RewardModel, Sessions
from agentrm.models.state import Proposal, State
from agentrm.search.episode import Opening, advance, begin, step_limit
from agentrm.search.result import Metered, Result
from agentrm.search.tree import normalise


async def beam_search(
    task: Task,
    policy: Policy,
    sessions: Sessions,
    reward_model: RewardModel,
    width: int,
    branches: int,
    *,
    max_depth: int,
    opening: Opening,
) -> Result:
    """The highest-scoring final state. The first step samples `width * branches` actions; states that have ended stay
    in the beam and compete by score with those that go on. Raises EnvironmentFailure.
    """
    metered = Metered(policy, sessions, reward_model)
    beam: list[tuple[float, State]] = [(0.0, await begin(task, metered, opening))]
    cut: list[tuple[float, State]] = []
    for depth in range(step_limit(task, max_depth)):
        open_pairs = [pair for pair in beam if not pair[1].done]
        if not open_pairs:
            break
        count = branches if depth else width * branches
        expanded = await asyncio.gather(*(_expand(state, count, depth, metered) for _, state in open_pairs))
        cut += [pair for pair, states in zip(open_pairs, expanded, strict=True) if not states]
        successors = [state for states in expanded for state in states]
        scores = await metered.score(successors) if successors else []
        ended = [pair for pair in beam if pair[1].done]
        ranked = sorted([*ended, *zip(scores, successors, strict=True)], key=lambda pair: -pair[0])
        beam = ranked[:width]
    score, state = max([*beam, *cut], key=lambda pair: pair[0])
    return metered.result(state, score)


async def _expand(state: State, count: int, depth: int, metered: Metered) -> list[State]:
    """Successors by distinct actions; none when the state no longer fits the policy's context."""
    try:
        proposals = await metered.propose(state, count, seed=depth)
    except ContextOverflow:
        return []
    distinct: dict[str, Proposal] = {}
    for proposal in proposals:
        distinct.setdefault(normalise(proposal.action), proposal)
    return list(await asyncio.gather(*(advance(state, proposal, metered) for proposal in distinct.values())))

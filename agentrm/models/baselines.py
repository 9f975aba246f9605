"""Reward models over any scorer of token ids, and the baselines that every table holds beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from math import inf

from agentrm.core.errors import ContextOverflow
from agentrm.core.messages import Conversation
from agentrm.core.protocols import CostedValue, RewardModel
from agentrm.core.state import State
from agentrm.rendering.renderer import Renderer

ScoreIds = Callable[[Sequence[Sequence[int]]], Awaitable[list[float]]]
"""One raw value per sequence of token ids, read at its last token."""


async def score_what_fits(score: ScoreIds, renderer: Renderer, conversations: Sequence[Conversation]) -> list[float]:
    """One raw value per conversation, -inf for one that exceeds the context."""

    def render() -> dict[int, tuple[list[int], int]]:
        fitting = {}
        for number, conversation in enumerate(conversations):
            with suppress(ContextOverflow):
                fitting[number] = renderer.fitted(conversation)
        return fitting

    fitting = await asyncio.to_thread(render)
    values = await score([ids for ids, _ in fitting.values()])
    scores = {
        number: CostedValue(value, value.tokens, value.cached, left_out) if isinstance(value, CostedValue) else value
        for value, (number, (_, left_out)) in zip(values, fitting.items(), strict=True)
    }
    return [scores.get(number, -inf) for number in range(len(conversations))]


class ShortestFirst:
    """Baseline: fewer steps are better. Environments end early on success, so length alone can pick winners."""

    def value(self, state: State) -> float:
        """Minus the number of steps."""
        return -float(len(state.steps))

    async def score(self, states: Sequence[State]) -> list[float]:
        """`value` of each state."""
        return [self.value(state) for state in states]


class PolicyLikelihood:
    """Baseline: what the policy itself finds likely. Needs states whose steps were sampled, not replayed."""

    def value(self, state: State) -> float:
        """The natural-log probability of all turns so far."""
        return sum(step.proposal.logprob for step in state.steps)

    async def score(self, states: Sequence[State]) -> list[float]:
        """`value` of each state."""
        return [self.value(state) for state in states]


class WithLikelihood:
    """V(s) + `weight` log pi(s): a reward model's value and the natural-log probability of the turns that led there.

    That orders states as does the policy that is optimal under a KL penalty of `weight` towards the one that sampled
    them (Controlled Decoding, Mudgal et al. 2024). Where the reward model knows nothing, the policy's taste decides.
    """

    def __init__(self, reward_model: RewardModel, weight: float) -> None:
        self._reward_model = reward_model
        self._weight = weight
        self._likelihood = PolicyLikelihood()

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `RewardModel`; the cost is the reward model's."""
        scores = await self._reward_model.score(states)
        return [self._sum(score, state) for score, state in zip(scores, states, strict=True)]

    def _sum(self, score: float, state: State) -> float:
        total = score + self._weight * self._likelihood.value(state)
        if not isinstance(score, CostedValue):
            return total
        return CostedValue(total, score.tokens, score.cached, score.left_out)


class RandomScores:
    """Baseline: a uniform score that depends on the seed and the state alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def value(self, state: State) -> float:
        """A number in [0, 1)."""
        key = f"{self._seed}|{state.task.id}|{state.actions}".encode()
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") / 2**64

    async def score(self, states: Sequence[State]) -> list[float]:
        """`value` of each state."""
        return [self.value(state) for state in states]

"""Reward models over any scorer of token ids, and the baselines that every table holds beside them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from agentrm.models.rendering import Renderer
from agentrm.models.state import State


class Scorer(Protocol):
    """Scores token ids; in this process or behind Ray Serve."""

    async def score_ids(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """One raw value per sequence, read at its last token."""
        ...


class ExplicitRewardModel:
    """V(s) by a language model with one scalar head (paper, section 3: explicit reward model)."""

    def __init__(self, scorer: Scorer, renderer: Renderer) -> None:
        self._scorer = scorer
        self._renderer = renderer

    async def score(self, states: Sequence[State]) -> list[float]:
        """One raw value per state. Raises ContextOverflow."""
        return await self._scorer.score_ids([self._renderer.ids(state.messages()) for state in states])


class ShortestFirst:
    """Baseline: fewer steps are better. Environments end early on success, so length alone can pick winners."""

    async def score(self, states: Sequence[State]) -> list[float]:
        """Minus the number of steps."""
        return [-float(len(state.steps)) for state in states]


class RandomScores:
    """Baseline: a uniform score that depends on the seed and the state alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    async def score(self, states: Sequence[State]) -> list[float]:
        """Uniform values in [0, 1)."""
        keys = [f"{self._seed}|{state.task.id}|{state.actions}".encode() for state in states]
        return [int.from_bytes(blake2b(key, digest_size=8).digest(), "big") / 2**64 for key in keys]

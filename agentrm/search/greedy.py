"""Greedy decoding: one episode at temperature 0, the paper's baseline."""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.search.exploration import Exploration
from agentrm.search.sampling import play


@dataclass(frozen=True, slots=True)
class Greedy:
    """The episode of the most likely actions."""

    label = "greedy"
    guided = False

    async def choose(self, explored: Exploration) -> int:
        """The end of the episode."""
        (end,) = await play(explored, [0], greedy=True)
        return end

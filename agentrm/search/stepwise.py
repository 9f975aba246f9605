"""Stepwise argmax: after each step go on from the best of k sampled successors, and forget the others (as QLASS, Lin et
al. 2025, does with its Q-values).
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.config.schema import Scored
from agentrm.search.beam import Beam, told
from agentrm.search.exploration import Exploration


@dataclass(frozen=True, slots=True)
class Stepwise:
    """Beam search of width 1. With candidates `scored` before acting it never goes back: one live episode is enough."""

    candidates: int
    scored: Scored = Scored.after_acting
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"stepwise of {self.candidates}{told(self.scored)}"

    async def choose(self, explored: Exploration) -> int:
        """The end of the one path."""
        return await Beam(1, self.candidates, self.scored).choose(explored)

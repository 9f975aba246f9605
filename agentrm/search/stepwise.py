"""Stepwise argmax: after each step go on from the best of k sampled successors, and forget the others (as QLASS, Lin et
al. 2025, does with its Q-values).
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.search.beam import Beam
from agentrm.search.exploration import Exploration


@dataclass(frozen=True, slots=True)
class Stepwise:
    """Beam search of width 1."""

    candidates: int
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"stepwise of {self.candidates}"

    async def choose(self, explored: Exploration) -> int:
        """The end of the one path."""
        return await Beam(1, self.candidates).choose(explored)

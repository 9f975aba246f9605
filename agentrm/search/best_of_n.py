"""Best-of-N: sample N whole episodes, keep the one whose final state scores highest (paper, section 3; N = 5)."""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.search.exploration import Exploration
from agentrm.search.sampling import sample


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Episodes that read the same are one candidate; the first of equally good ones wins."""

    n: int
    guided = False

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"best of {self.n}"

    async def choose(self, explored: Exploration) -> int:
        """The best end."""
        ends = await sample(explored, self.n, gated=True)
        await explored.score(ends)
        return explored.best(ends)


@dataclass(frozen=True, slots=True)
class JudgedBestOfN(BestOfN):
    """The same, but a judge compares the episodes: its scores mean nothing beyond them."""

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"judged best of {self.n}"

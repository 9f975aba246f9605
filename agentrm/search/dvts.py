"""Diverse verifier tree search (Beeching et al. 2024, "Scaling test-time compute with open models"): independent
subtrees, each of which goes on from its own best state, so that no single branch takes over the beam.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.search.exploration import Exploration


@dataclass(frozen=True, slots=True)
class DVTS:
    """The first step samples `subtrees * branches` actions and deals the distinct ones out in turn."""

    subtrees: int
    branches: int
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"dvts {self.subtrees}x{self.branches}"

    async def choose(self, explored: Exploration) -> int:
        """The best of the subtrees' ends."""
        if not explored.is_open(0):
            return 0
        first = await explored.expand([0], self.subtrees * self.branches)
        valued = await explored.score(first)
        dealt = [valued[number :: self.subtrees] for number in range(self.subtrees)]
        tips = [explored.ranked(own)[0] for own in dealt if own]
        explored.report(first, tips)
        ends: list[int] = []
        while tips:
            ends += [tip for tip in tips if not explored.is_open(tip)]
            opened = [tip for tip in tips if explored.is_open(tip)]
            fresh = await explored.expand(opened, self.branches)
            successors: dict[int, list[int]] = {tip: [] for tip in opened}
            for index in await explored.score(fresh):
                successors[explored.tree.nodes[index].parent].append(index)
            ends += [tip for tip, own in successors.items() if not own]
            tips = [explored.ranked(own)[0] for own in successors.values() if own]
            explored.report(fresh, [*ends, *tips])
        return explored.best(ends or [0])

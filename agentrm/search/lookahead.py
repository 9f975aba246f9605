"""Lookahead search (Snell et al. 2024, "Scaling LLM test-time compute optimally"): beam search whose states have the
score of where the greedy policy gets from them in a few steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrm.search.beam import keep_best
from agentrm.search.exploration import Exploration


@dataclass(frozen=True, slots=True)
class Lookahead:
    """Beam search of `width` and `branches`, `steps` greedy actions ahead or to the end of the episode."""

    width: int
    branches: int
    steps: int
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"lookahead {self.width}x{self.branches}+{self.steps}"

    async def choose(self, explored: Exploration) -> int:
        """The best final state."""

        async def value(nodes: Sequence[int]) -> list[int]:
            ahead = await self._ahead(explored, nodes)
            await explored.score(list(ahead.values()))
            # A node that was passed on the way here has the value of what lies ahead of it now.
            explored.values |= {node: explored.values[end] for node, end in ahead.items() if end in explored.values}
            return [node for node, end in ahead.items() if end in explored.values]

        return await keep_best(explored, self.width, self.branches, value)

    async def _ahead(self, explored: Exploration, nodes: Sequence[int]) -> dict[int, int]:
        """Where each node leads; where a context is full or a budget spent, as far as it went."""
        ahead = {node: node for node in nodes}
        moving = [node for node in nodes if explored.is_open(node)]
        for _ in range(self.steps):
            children = await explored.continued([(ahead[node], 0) for node in moving], greedy=True)
            moved = {node: child for node, child in zip(moving, children, strict=True) if child is not None}
            ahead |= moved
            moving = [node for node in moved if explored.is_open(ahead[node])]
        return ahead

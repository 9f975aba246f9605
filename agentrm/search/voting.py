"""Majority and weighted Best-of-N: N episodes vote for how they ended (self-consistency, Wang et al. 2022, and weighted
by a verifier, Li et al. 2023).

Two episodes ended equally when their last action and the environment's answer to it read the same. Whole sequences of
actions hardly ever repeat, as detours that change nothing tell them apart; the engine's own state would hold what does
not matter either, such as a count of moves, and no agent can see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrm.core.tree import normalise
from agentrm.search.aggregation import clipped
from agentrm.search.exploration import Exploration
from agentrm.search.sampling import sample

Ending = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Majority:
    """The first episode of the ending that most of `n` share, of equally frequent ones the first; nothing is scored."""

    n: int
    guided = False

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"majority of {self.n}"

    async def choose(self, explored: Exploration) -> int:
        """The first end of the largest class."""
        return max(endings(explored, await sample(explored, self.n)), key=len)[0]


@dataclass(frozen=True, slots=True)
class Weighted:
    """The best episode of the ending whose episodes have the highest sum of values, each clipped to [0, 1]."""

    n: int
    guided = False

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"weighted best of {self.n}"

    async def choose(self, explored: Exploration) -> int:
        """The best end of the heaviest class."""
        ends = await sample(explored, self.n, gated=True)
        await explored.score(ends)

        def weight(equal: Sequence[int]) -> float:
            return sum(clipped(explored.values.get(end, 0.0)) for end in equal)

        return explored.best(max(endings(explored, ends), key=weight))


def endings(explored: Exploration, ends: list[int]) -> list[list[int]]:
    """The ends by how the episode ended, in the order of first appearance; a repeated episode is there repeatedly."""
    classes: dict[Ending, list[int]] = {}
    for end in ends:
        node = explored.tree.nodes[end]
        classes.setdefault((normalise(node.action), node.observation, node.terminal), []).append(end)
    return list(classes.values())

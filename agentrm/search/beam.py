"""Step-level beam search (paper, section 3): keep the W1 best states, expand each by W2 actions, until all end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from agentrm.search.exploration import Exploration


@dataclass(frozen=True, slots=True)
class Beam:
    """The first step samples `width * branches` actions; states that have ended stay in the beam and compete by score
    with those that go on.
    """

    width: int
    branches: int
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"beam {self.width}x{self.branches}"

    async def choose(self, explored: Exploration) -> int:
        """The best final state."""
        return await keep_best(explored, self.width, self.branches, explored.score)


async def keep_best(
    explored: Exploration, width: int, branches: int, value: Callable[[Sequence[int]], Awaitable[list[int]]]
) -> int:
    """The beam's loop; `value` gives new states their values and returns those that have one."""
    beam = [0]
    stranded: list[int] = []
    while opened := [index for index in beam if explored.is_open(index)]:
        fresh = await explored.expand(opened, branches if explored.tree.nodes[opened[0]].depth else width * branches)
        valued = await value(fresh)
        continued = {explored.tree.nodes[index].parent for index in valued}
        stranded += [index for index in opened if index not in continued]
        ended = [index for index in beam if not explored.is_open(index)]
        beam = explored.ranked([*ended, *valued])[:width]
        explored.report(fresh, beam)
    return explored.best([*beam, *stranded])

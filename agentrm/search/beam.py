"""Step-level beam search (paper, section 3): keep the W1 best states, expand each by W2 actions, until all end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from agentrm.config.schema import Scored
from agentrm.search.exploration import Exploration


@dataclass(frozen=True, slots=True)
class Beam:
    """The first step samples `width * branches` actions; states that have ended stay in the beam and compete by score
    with those that go on. What is `scored` before acting are actions: only those that are kept are executed, and a
    state has the value of the action that led there.
    """

    width: int
    branches: int
    scored: Scored = Scored.after_acting
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"beam {self.width}x{self.branches}{told(self.scored)}"

    async def choose(self, explored: Exploration) -> int:
        """The best final state."""
        return await keep_best(explored, self.width, self.branches, explored.score, self.scored)


def told(scored: Scored) -> str:
    """What a label says of when candidates are scored."""
    return ", before acting" if scored is Scored.before_acting else ""


async def keep_best(
    explored: Exploration,
    width: int,
    branches: int,
    value: Callable[[Sequence[int]], Awaitable[list[int]]],
    scored: Scored = Scored.after_acting,
) -> int:
    """The beam's loop; `value` gives new candidates their values and returns those that have one."""
    beam = [0]
    stranded: list[int] = []
    grow = explored.propose if scored is Scored.before_acting else explored.expand
    while opened := [index for index in beam if explored.is_open(index)]:
        fresh = await grow(opened, branches if explored.tree.nodes[opened[0]].depth else width * branches)
        valued = await value(fresh)
        continued = {explored.tree.nodes[index].parent for index in valued}
        stranded += [index for index in opened if index not in continued]
        ended = [index for index in beam if not explored.is_open(index)]
        beam = explored.ranked([*ended, *valued])[:width]
        executed = await explored.execute(beam)
        stranded += [explored.tree.nodes[index].parent for index in beam if index not in executed]
        beam = executed
        explored.report(fresh, beam)
    return explored.best([*beam, *stranded])

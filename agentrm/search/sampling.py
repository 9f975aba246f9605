"""Whole episodes, sampled or greedy: what Best-of-N and voting choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrm.search.exploration import Exploration


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled episode: what the policy does without a search."""

    label = "one sample"
    guided = False

    async def choose(self, explored: Exploration) -> int:
        """The end of the episode."""
        (end,) = await sample(explored, 1)
        return end


async def sample(explored: Exploration, n: int, *, gated: bool = False) -> list[int]:
    """The ends of `n` independently sampled episodes, fewer where a budget or, if `gated`, the gate ended the search.

    They are played side by side; under a budget or a gate one after another, for it is to end some of them rather
    than cut all. The one that it cut counts only if there is no other.
    """
    gated = gated and explored.settings.gate is not None
    if not (gated or explored.limited):
        return await play(explored, range(n))
    ends: list[int] = []
    while len(ends) < n and not explored.ended_by:
        end = await play(explored, [len(ends)])
        if explored.ended_by and ends:
            break
        ends += end
        if gated:
            await explored.score(end)
    return ends


async def play(explored: Exploration, seeds: Sequence[int], *, greedy: bool = False) -> list[int]:
    """One episode per seed, side by side, from the root until the environment, a limit or a budget ends it."""
    ends = [0] * len(seeds)
    running = [lane for lane in range(len(seeds)) if explored.is_open(0)]
    while running:
        children = await explored.continued([(ends[lane], seeds[lane]) for lane in running], greedy=greedy)
        moved = {lane: child for lane, child in zip(running, children, strict=True) if child is not None}
        for lane, child in moved.items():
            ends[lane] = child
        explored.report(list(dict.fromkeys(moved.values())), list(dict.fromkeys(ends)))
        running = [lane for lane in moved if explored.is_open(ends[lane])]
    return ends

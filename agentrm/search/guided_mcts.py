"""Monte Carlo tree search at test time: the reward model's value of a new state stands where tree building rolls out
and reads the true reward (as LATS, Zhou et al. 2023, and ReST-MCTS*, Zhang et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.config import schema
from agentrm.search.exploration import Exploration
from agentrm.search.selection import select


@dataclass(frozen=True, slots=True)
class GuidedMCTS:
    """`iterations` nodes are expanded by `branches` sampled actions, `parallel` of them in a round, kept apart by
    virtual loss; every new state is scored once and its value backed up.
    """

    selection: schema.Selection
    iterations: int
    parallel: int
    branches: int
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"mcts {self.selection.value} {self.iterations}x{self.branches}"

    async def choose(self, explored: Exploration) -> int:
        """The best end of an episode, or the best state where none was reached."""
        tree = explored.tree
        search = schema.Trees(expansions=self.branches, selection=self.selection)
        tree.nodes[0].closed = not explored.is_open(0)
        while not explored.ended_by and tree.iterations < self.iterations:
            leaves: list[int] = []
            while len(leaves) < min(self.parallel, self.iterations - tree.iterations):
                if (leaf := select(tree, search)) is None:
                    break
                tree.occupy(leaf)
                leaves.append(leaf)
            if not leaves:
                break
            fresh = await explored.expand(leaves, self.branches)
            await explored.score(fresh)
            for leaf in leaves:
                tree.release(leaf)
                tree.nodes[leaf].expanded = tree.nodes[leaf].sealed = True
            for index in fresh:
                if not explored.is_open(index):
                    tree.close(index)
            for leaf in leaves:
                tree.close_if_done(leaf)
            tree.iterations += len(leaves)
            explored.report(fresh, leaves)
        ends = [index for index in explored.values if tree.nodes[index].closed and not tree.nodes[index].children]
        return explored.best(ends or [*explored.values] or [0])

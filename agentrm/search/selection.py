"""Which node a simulation goes to: UCB as in the paper, or PUCT with the policy's prior; progressive widening."""

from __future__ import annotations

import math

from agentrm.config.schema import Selection, Trees
from agentrm.core.tree import Node, Tree


def select(tree: Tree, search: Trees) -> int | None:
    """Walk from the root to a node that takes new actions; None while all such nodes are busy."""
    index = 0
    while (node := tree.nodes[index]).expanded:
        free = [i for i in node.children if not _blocked(tree, i)]
        if _widens(node, free, search):
            return index
        if not free:
            return None
        scores = puct(tree, index, search) if search.selection is Selection.puct else ucb(tree, index, search)
        index = max(free, key=scores.__getitem__)
    return None if node.closed or node.busy else index


def ucb(tree: Tree, parent: int, search: Trees) -> dict[int, float]:
    """V + c sqrt(2 ln N_parent / N) of each child, infinite at N = 0.

    Each simulation under way counts as `virtual_loss` visits of return 0, here and in `puct`.
    """
    total = max(_visits(tree.nodes[parent], search), 1.0)
    scores = {}
    for i in tree.nodes[parent].children:
        visits = _visits(tree.nodes[i], search)
        bonus = search.exploration * math.sqrt(2 * math.log(total) / visits) if visits else math.inf
        scores[i] = _value(tree.nodes[i], visits) + bonus
    return scores


def puct(tree: Tree, parent: int, search: Trees) -> dict[int, float]:
    """V + c P sqrt(N_parent) / (1 + N) of each child; P is the policy's `prior`."""
    root = math.sqrt(_visits(tree.nodes[parent], search))
    scores = {}
    for i, probability in prior(tree, parent).items():
        visits = _visits(tree.nodes[i], search)
        scores[i] = _value(tree.nodes[i], visits) + search.exploration * probability * root / (1 + visits)
    return scores


def prior(tree: Tree, parent: int) -> dict[int, float]:
    """The policy's probability of each child's sampled turn (of all its tokens), normalised over the children."""
    children = tree.nodes[parent].children
    highest = max(tree.nodes[i].logprob for i in children)
    weights = {i: math.exp(tree.nodes[i].logprob - highest) for i in children}
    return {i: weight / math.fsum(weights.values()) for i, weight in weights.items()}


def width(node: Node, search: Trees) -> int:
    """How many children an expanded node may have: `expansions`, or N ** `widening` where that is more."""
    return max(search.expansions, math.floor(node.visits**search.widening))


def _widens(node: Node, free: list[int], search: Trees) -> bool:
    """Whether to sample another action here: N allows for it, or all that was sampled before has been simulated."""
    return not (node.sealed or node.busy) and (not free or len(node.children) < width(node, search))


def _blocked(tree: Tree, index: int) -> bool:
    """Whether nothing at or below a node with a parent can be simulated now."""
    node = tree.nodes[index]
    if not node.visits and tree.nodes[node.parent].busy:
        return True  # the simulation that has just added it is about to roll it out
    if node.closed or not node.expanded:
        return node.closed or node.busy > 0
    return (node.sealed or node.busy > 0) and all(_blocked(tree, i) for i in node.children)


def _visits(node: Node, search: Trees) -> float:
    return node.visits + search.virtual_loss * node.virtual


def _value(node: Node, visits: float) -> float:
    return node.value * node.visits / visits if visits else 0.0

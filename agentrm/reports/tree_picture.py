"""One search tree as a picture: where selection went, what returned, and what became of the episodes."""

from __future__ import annotations

from itertools import islice

import matplotlib as mpl
from matplotlib.figure import Figure

from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore
from agentrm.reports.plots import FAINT, INK, STYLE, svg
from agentrm.run import RunDirectory

_LOOKED_AT = 64
_MOST_NODES = 40
_LABEL = 34
"""Characters of an action that are shown."""
_ROW, _COLUMN = 0.24, 2.6
"""Inches between rows, and between depths."""


def shown_tree(directory: RunDirectory) -> Tree | None:
    """Of a run's first trees to learn from the one whose returns differ most among those in which selection went
    deepest; None where there is none.
    """
    if not directory.finished("trees"):
        return None
    trees = (tree for tree in TreeStore(directory.at("trees")).trees() if tree.task.split == "train")
    return max(islice(trees, _LOOKED_AT), key=_tells, default=None)


def _tells(tree: Tree) -> tuple[int, float]:
    values = [node.value for node in tree.nodes if node.visits]
    return max(_selected(tree), default=0), max(values) - min(values)


def _selected(tree: Tree) -> list[int]:
    """The depths of the nodes that have several actions: a rollout leaves one."""
    return [node.depth for node in tree.nodes if len(node.children) > 1]


def tree_caption(tree: Tree) -> str:
    """What is to be seen, in words."""
    return (
        f"{tree.task.id}: {tree.nodes[0].visits} rollouts of {tree.iterations} iterations. Each line is an action, a "
        "node the state after it, with its value, the mean of what came back through it: red is 0, green 1. The larger "
        "a node, the more often it was visited: selection goes on where values are high or little is known. Of single "
        "rollouts only the first action is drawn, with what the rollout was worth."
    )


def drawn(tree: Tree) -> list[int]:
    """The nodes of the picture, at most some forty: those with several visits and their children, most visited first;
    each comes with its ancestors.
    """
    nodes = tree.nodes
    inner = sorted((i for i, node in enumerate(nodes) if node.visits > 1), key=lambda i: (-nodes[i].visits, i))
    kept: set[int] = {0}
    for index in inner:
        fresh = {*tree.path(index), *nodes[index].children} - kept
        if len(kept) + len(fresh) > _MOST_NODES:
            break
        kept |= fresh
    return sorted(kept)


@mpl.rc_context(STYLE)
def drawn_tree(tree: Tree) -> str:
    """The tree from left to right: a column for each depth, a row for each node that has no drawn child."""
    kept = set(drawn(tree))
    children = {i: [child for child in tree.nodes[i].children if child in kept] for i in kept}
    rows: dict[int, float] = {}
    free = 0

    def place(index: int) -> float:
        nonlocal free
        if children[index]:
            below = [place(child) for child in children[index]]
            rows[index] = (below[0] + below[-1]) / 2
        else:
            rows[index] = free
            free += 1
        return rows[index]

    place(0)
    depth = max(tree.nodes[i].depth for i in kept)
    figure = Figure(figsize=(1.2 + _COLUMN * depth, 0.6 + _ROW * free), layout="constrained")
    figure.patch.set_alpha(0)
    axis = figure.subplots()
    axis.patch.set_alpha(0)
    values = mpl.colormaps["RdYlGn"]
    for index, row in rows.items():
        node = tree.nodes[index]
        if node.parent in rows:
            axis.plot([node.depth - 1, node.depth], [rows[node.parent], row], color=FAINT, linewidth=1, zorder=1)
        size = 18 + 90 * (node.visits / max(tree.nodes[0].visits, 1)) ** 0.5
        axis.scatter([node.depth], [row], s=size, color=values(node.value), edgecolors=FAINT, linewidths=0.6, zorder=2)
        action = node.action if len(node.action) <= _LABEL else f"{node.action[: _LABEL - 1]}…"
        told = f"{action}  {node.value:.2f} ({node.visits})".strip()
        axis.annotate(
            told, (node.depth, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=7, color=INK
        )
    axis.set_ylim(free - 0.4, -0.6)
    axis.set_xlim(-0.1, depth + 0.95)
    axis.set_axis_off()
    return svg(figure)

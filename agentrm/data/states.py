"""Search trees to the reward model's training data: every state once, labelled with its value in the tree.

One sequence per path from the root to a leaf holds all states on it, since a state is a prefix of its successors; a
state that several paths share is labelled in the first of them only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from agentrm.environments.base import Task
from agentrm.errors import ContextOverflow
from agentrm.models.rendering import Renderer
from agentrm.search.tree import Tree
from agentrm.training.sequences import Sequences


@dataclass(frozen=True, slots=True)
class StateSamples:
    """`sequences` with float32 labels V(s); `owners[p]` is (tree, node) of label p, the tree counted in the order
    given; `overflows` counts states that exceed the model's context.
    """

    sequences: Sequences
    owners: list[tuple[int, int]]
    overflows: int


def held_out(task: Task, fraction: float) -> bool:
    """Whether a task's tree is kept from training: decided by its id alone, so it never changes between runs."""
    digest = blake2b(task.id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def samples(trees: Iterable[Tree], renderer: Renderer) -> StateSamples:
    """The labelled states of all trees, the roots included."""
    rows: list[tuple[list[int], list[int], list[float]]] = []
    owners: list[tuple[int, int]] = []
    overflows = 0
    for number, tree in enumerate(trees):
        seen: set[int] = set()
        inner = {node.parent for node in tree.nodes}
        for leaf in (index for index in range(len(tree.nodes)) if index not in inner):
            path = tree.path(leaf)
            while path:
                try:
                    rendered = renderer.render(tree.state(path[-1]).messages())
                    break
                except ContextOverflow:
                    overflows += path[-1] not in seen
                    seen.add(path.pop())
            fresh = [index for index in path if index not in seen]
            if not fresh:
                continue
            seen.update(fresh)
            # Message 2t is the environment's turn that completes the state of depth t.
            positions = [rendered.ends[2 * tree.nodes[index].depth] for index in fresh]
            rows.append((rendered.ids, positions, [tree.nodes[index].value for index in fresh]))
            owners += [(number, index) for index in fresh]
    return StateSamples(Sequences.of(rows, np.float32), owners, overflows)

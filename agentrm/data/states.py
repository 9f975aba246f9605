"""Search trees to the reward model's training data: every state once, labelled with its value in the tree.

One sequence per path from the root to a leaf holds all states on it, where a state is a prefix of its successors, else
as few as do; a state that several paths share is labelled in the first of them only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from agentrm.config.schema import Labels
from agentrm.core.errors import ContextOverflow
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.data.sequences import Sequences
from agentrm.rendering.renderer import Renderer


@dataclass(frozen=True, slots=True)
class StateSamples:
    """`sequences` with float32 labels V(s); `owners[p]` is (tree, node) of label p, the tree counted in the order
    given; `overflows` counts states that exceed the model's context.
    """

    sequences: Sequences
    owners: list[tuple[int, int]]
    overflows: int


def held_out(task: Task, fraction: float) -> bool:
    """Whether a task's tree is kept from training: a share of the split `train`, and all others. Decided by the task's
    id alone, so it never changes between runs.
    """
    if task.split != "train":
        return True
    digest = blake2b(task.id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def learned(task: Task, labels: Labels) -> bool:
    """Whether a task's tree is among the environments and the share that `labels` names."""
    if not labels.holds(task.environment, f"{task.environment}.{task.kind}"):
        return False
    # Salted, so that the share does not depend on which tasks are held out.
    digest = blake2b(task.id.encode(), digest_size=8, salt=b"share").digest()
    return int.from_bytes(digest, "big") < labels.share * 2**64


def samples(
    trees: Iterable[Tree],
    renderer: Renderer,
    labels: Labels | None = None,
    *,
    implicit: bool = False,
) -> StateSamples:
    """The labelled states of all trees, the roots included; `labels` says which count and how much (default: all of
    them the same). `implicit`: the agent's tokens are marked by a `reference` of 0 that is still to be computed.
    """
    labels = labels or Labels()
    rows: list[tuple[list[int], list[int], list[float]]] = []
    agent: list[bool] = []
    owners: list[tuple[int, int]] = []
    environments: list[str] = []
    overflows = 0
    for number, tree in enumerate(trees):
        seen: set[int] = set()
        for leaf in tree.leaves():
            path = tree.path(leaf)
            while path:
                try:
                    covering = renderer.cover(tree.state(path[-1]).conversation())
                    break
                except ContextOverflow:
                    overflows += path[-1] not in seen
                    seen.add(path.pop())
            fresh = [index for index in path if index not in seen and tree.nodes[index].visits >= labels.min_visits]
            seen.update(path)
            if not fresh:
                continue
            depths = {tree.nodes[index].depth: index for index in fresh}
            for rendered in covering:
                ends = {
                    depths[depth]: end
                    for depth, end in enumerate(rendered.states)
                    if end is not None and depth in depths
                }
                if ends:
                    rows.append((rendered.ids, [*ends.values()], [tree.nodes[index].value for index in ends]))
                    agent += rendered.agent
                    owners += [(number, index) for index in ends]
                    environments += [tree.task.environment] * len(ends)
    counts = Counter(environments)
    # Equal weights change nothing, and a loss without weights is cheaper.
    weighted = labels.balance and len(set(counts.values())) > 1
    sequences = Sequences.of(
        rows,
        np.float32,
        weights=np.array([1 / counts[name] for name in environments]) if weighted else None,
        reference=np.where(agent, 0.0, np.nan) if implicit else None,
    )
    return StateSamples(sequences, owners, overflows)

"""Search trees to the reward model's training data: every state once, labelled with its value in the tree.

One sequence per path from the root to a leaf holds all states on it, since a state is a prefix of its successors; a
state that several paths share is labelled in the first of them only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from agentrm.config import is_named
from agentrm.config.schema import Labels
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
    """Whether a task's tree is kept from training: a share of the split `train`, and all others. Decided by the task's
    id alone, so it never changes between runs.
    """
    if task.split != "train":
        return True
    digest = blake2b(task.id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def learned(task: Task, labels: Labels) -> bool:
    """Whether a task's tree is among the environments and the share that `labels` names."""
    if not is_named(labels, task.environment, f"{task.environment}.{task.kind}"):
        return False
    # Salted, so that the share does not depend on which tasks are held out.
    digest = blake2b(task.id.encode(), digest_size=8, salt=b"share").digest()
    return int.from_bytes(digest, "big") < labels.share * 2**64


def samples(
    trees: Iterable[Tree],
    renderer: Renderer,
    labels: Labels | None = None,
    *,
    bundled: bool = False,
    implicit: bool = False,
) -> StateSamples:
    """The labelled states of all trees, the roots included; `labels` says which count and how much (default: all of
    them the same). `bundled`: sequences of one tree are to be trained on side by side. `implicit`: the agent's tokens
    are marked by a `reference` of 0 that is still to be computed.
    """
    labels = labels or Labels()
    rows: list[tuple[list[int], list[int], list[float]]] = []
    bundles: list[int] = []
    agent: list[bool] = []
    owners: list[tuple[int, int]] = []
    weights: list[float] = []
    environments: list[str] = []
    overflows = 0
    for number, tree in enumerate(trees):
        values = _values(tree, labels)
        weight = _weights(tree, labels)
        seen: set[int] = set()
        for leaf in tree.leaves():
            path = tree.path(leaf)
            while path:
                try:
                    rendered = renderer.render(tree.state(path[-1]).messages())
                    break
                except ContextOverflow:
                    overflows += path[-1] not in seen
                    seen.add(path.pop())
            fresh = [index for index in path if index not in seen and index in values]
            seen.update(path)
            if not fresh:
                continue
            # Message 2t is the environment's turn that completes the state of depth t.
            positions = [rendered.ends[2 * tree.nodes[index].depth] for index in fresh]
            rows.append((rendered.ids, positions, [values[index] for index in fresh]))
            bundles.append(number)
            agent += rendered.agent
            owners += [(number, index) for index in fresh]
            weights += [weight[index] for index in fresh]
            environments += [tree.task.environment] * len(fresh)
    if labels.balance:
        counts = Counter(environments)
        weights = [weight / counts[name] for weight, name in zip(weights, environments, strict=True)]
    sequences = Sequences.of(
        rows,
        np.float32,
        # Equal weights change nothing, and a loss without weights is cheaper.
        weights=np.array(weights) if len(set(weights)) > 1 else None,
        bundles=np.array(bundles) if bundled else None,
        reference=np.where(agent, 0.0, np.nan) if implicit else None,
    )
    return StateSamples(sequences, owners, overflows)


def _values(tree: Tree, labels: Labels) -> Mapping[int, float]:
    """The labels of the nodes that count."""
    counted = {
        index: node.value
        for index, node in enumerate(tree.nodes)
        if node.visits >= labels.min_visits and (node.outcome is not None or not labels.last_step_only)
    }
    if not labels.normalise or not counted:
        return counted
    values = np.array(list(counted.values()))
    scaled = (values - values.mean()) / (values.std() or 1.0)
    return dict(zip(counted, scaled.tolist(), strict=True))


def _weights(tree: Tree, labels: Labels) -> list[float]:
    remaining = [0] * len(tree.nodes)
    # Parents stand before their children.
    for index in range(len(tree.nodes) - 1, 0, -1):
        parent = tree.nodes[index].parent
        remaining[parent] = max(remaining[parent], remaining[index] + 1)
    return [
        float(node.visits**labels.visit_power * labels.decay**steps)
        for node, steps in zip(tree.nodes, remaining, strict=True)
    ]

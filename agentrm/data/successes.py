"""A policy's own successes in its trees as demonstrations: rejection sampling, as in STaR (Zelikman et al. 2022) and
RFT (Yuan et al. 2023), by which a policy is improved on tasks that no expert has shown it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from agentrm.config.schema import DemonstrationSet
from agentrm.core.errors import UserError
from agentrm.core.tree import Tree
from agentrm.data.demonstrations import Collection, Demonstration
from agentrm.data.trees import TreeStore


def successes(sets: Sequence[DemonstrationSet]) -> Collection:
    """The shortest success of each task of the sets that name trees, of the split `train` alone, whose outcome is 1 and
    whose turns could all be read; trees `without_success` are counted. One for each task, so that easy tasks, which
    have many, count no more than hard ones. Raises UserError where there are too few.
    """
    collection = Collection()
    for source in sets:
        demonstrations: dict[str, Demonstration] = {}
        for tree in _of(source):
            counts = collection.counts.setdefault(f"{tree.task.environment}.{tree.task.kind}", Counter())
            shortest = min(_solved(tree), key=lambda index: (tree.nodes[index].depth, index), default=None)
            if shortest is None:
                counts["without_success"] += 1
            else:
                demonstrations.setdefault(tree.task.id, Demonstration(tree.task, tree.state(shortest).conversation()))
        chosen = list(demonstrations.values())[source.offset :][: source.count or None]
        if len(chosen) < (source.count or 1):
            raise UserError(
                f"{source.trees} holds successes in {len(demonstrations)} tasks of {source.environment}, too few for "
                f"offset={source.offset} and count={source.count or 1}: grow more trees, or raise trees.iterations"
            )
        for demonstration in chosen:
            task = demonstration.task
            collection.counts[f"{task.environment}.{task.kind}"]["kept"] += 1
        collection.demonstrations += chosen
    return collection


def _of(source: DemonstrationSet) -> Iterator[Tree]:
    for tree in TreeStore(source.trees).trees():
        task = tree.task
        if (
            task.split == "train"
            and task.environment == source.environment
            and task.kind in (source.kinds or [task.kind])
        ):
            yield tree


def _solved(tree: Tree) -> Iterator[int]:
    """The ends of its successful episodes."""
    for index, node in enumerate(tree.nodes):
        succeeded = node.outcome is not None and node.outcome >= 1
        if succeeded and not any(tree.nodes[passed].malformed for passed in tree.path(index)):
            yield index

"""Search trees to the reward model's training data: every state, every action or both once, labelled by the tree.

One sequence per path from the root to a leaf holds all states on it, where a state is a prefix of its successors, else
as few as do; a state that several paths share is labelled in the first of them only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from agentrm.config.schema import End, Labels, Loss, Target
from agentrm.core.errors import ContextOverflow, UserError
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.data.pairs import ranked, together
from agentrm.data.sequences import Sequences
from agentrm.rendering.renderer import Renderer


class Owner(NamedTuple):
    """Whose value a label is: of the node's state, or of the action that led to it. Trees are counted as given."""

    tree: int
    node: int
    at: End = End.state


@dataclass(frozen=True, slots=True)
class StateSamples:
    """`sequences` with float32 labels; `owners[p]` is whose value label p is; `overflows` counts states that exceed the
    model's context and are left out, `shortened` the sequences that hold a part of one, `apart` the pairs that no
    micro-batch has room for, `rewritten` the sequences that there are more than paths, since the chat template changes
    what is there.
    """

    sequences: Sequences
    owners: list[Owner]
    overflows: int
    apart: int = 0
    rewritten: int = 0
    shortened: int = 0


class _Label(NamedTuple):
    """What is to be read at a `place` of a sequence; labels of one `group` are compared with each other."""

    place: int
    owner: Owner
    target: float
    task: Task
    group: tuple[object, ...]


class _Row(NamedTuple):
    """One sequence: `agent` (L,) bool marks those of the `ids` (L,) int32 that the agent wrote."""

    ids: np.ndarray
    agent: np.ndarray
    labels: list[_Label]


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
    loss: Loss = Loss.squared,
    budget: int = 0,
) -> StateSamples:
    """The labels of all trees, those of the roots included; `labels` says which count, as what and how much (default:
    the values of all states the same). `implicit`: the agent's tokens are marked by a `reference` of 0 that is still to
    be computed. A `loss` of pairs leaves those labels alone that are in one, in micro-batches of `budget` tokens.

    Raises UserError for a label that is no probability where the `loss` needs one.
    """
    labels = labels or Labels()
    rows: list[_Row] = []
    overflows = rewritten = shortened = 0
    for number, tree in enumerate(trees):
        known = dict(_targets(tree, labels, loss))
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
            if any(rendered.left_out for rendered in covering):
                # A longer state may be shortened to what fits where its beginning cannot be.
                placed = {
                    depth for rendered in covering for depth, end in enumerate(rendered.states) if end is not None
                }
                overflows += sum(tree.nodes[index].depth not in placed for index in path if index not in seen)
            fresh = [index for index in path if index not in seen and index in known]
            seen.update(path)
            if not fresh:
                continue
            rewritten += sum(not rendered.left_out for rendered in covering[1:])
            depths = {tree.nodes[index].depth: index for index in fresh}
            for rendered in covering:
                ends = {End.state: rendered.states, End.action: [None, *rendered.actions]}
                row_labels = [
                    _Label(
                        place, Owner(number, index, at), known[index], tree.task, _group(tree, number, index, labels)
                    )
                    for at in labels.at
                    for depth, place in enumerate(ends[at])
                    if place is not None and (index := depths.get(depth)) is not None
                ]
                if row_labels:
                    shortened += rendered.left_out > 0
                    ids, agent = np.array(rendered.ids, np.int32), np.array(rendered.agent, bool)
                    rows.append(_Row(ids, agent, sorted(row_labels)))
    if loss is Loss.bradley_terry:
        return replace(_paired(rows, labels, budget, overflows), rewritten=rewritten, shortened=shortened)
    sequences = _sequences(rows, labels, implicit=implicit)
    return StateSamples(sequences, _owners(rows), overflows, rewritten=rewritten, shortened=shortened)


def _targets(tree: Tree, labels: Labels, loss: Loss) -> Iterator[tuple[int, float]]:
    """The nodes that count, and what they are to be valued at. Raises UserError as `samples` does."""
    for index, node in enumerate(tree.nodes):
        target = {
            Target.values: node.value,
            Target.outcomes: node.outcome,
            Target.progress: node.outcome if node.progress is None else node.progress,
            Target.steps: None if node.label is None else (node.label + 1) / 2,
        }[labels.of]
        # What an episode that ended here came to is no estimate.
        if target is None or (node.visits < labels.min_visits and node.outcome is None):
            continue
        if loss is Loss.cross_entropy and not 0 <= target <= 1:
            raise UserError(
                f"train.loss=cross_entropy learns from labels between 0 and 1, and the tree {tree.id} has {target:g}: "
                "give it a scale, or choose another loss"
            )
        yield index, target


def _group(tree: Tree, number: int, index: int, labels: Labels) -> tuple[object, ...]:
    """Siblings; of the ends of episodes, all of one task."""
    ends = labels.of in (Target.outcomes, Target.progress)
    return (tree.task.id,) if ends else (number, tree.nodes[index].parent)


def _paired(rows: Sequence[_Row], labels: Labels, budget: int, overflows: int) -> StateSamples:
    """The rows and labels that are in a pair which one micro-batch has room for."""
    every = [(number, label) for number, row in enumerate(rows) for label in row.labels]
    of_label = np.array([number for number, _ in every], np.int64)
    pairs = ranked([label.target for _, label in every], [(*label.group, label.owner.at) for _, label in every])
    units = together(pairs, of_label, [len(row.ids) for row in rows], budget)
    fits = np.equal(*units[of_label[pairs]].T)
    kept, renumbered = np.unique(pairs[fits], return_inverse=True)
    chosen: dict[int, list[_Label]] = {}
    for index in kept:
        number, label = every[index]
        chosen.setdefault(number, []).append(label)
    left = [rows[number]._replace(labels=row_labels) for number, row_labels in chosen.items()]
    ordered = renumbered.reshape(-1, 2)
    ordered = ordered[np.argsort(ordered[:, 0], kind="stable")]
    read = np.unique(units[list(chosen)], return_inverse=True)[1]
    return StateSamples(
        _sequences(left, labels, pairs=ordered, units=read), _owners(left), overflows, int((~fits).sum())
    )


def _sequences(
    rows: Sequence[_Row],
    labels: Labels,
    *,
    implicit: bool = False,
    pairs: np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> Sequences:
    tasks = [label.task for row in rows for label in row.labels]
    return Sequences.of(
        ((row.ids, [label.place for label in row.labels], [label.target for label in row.labels]) for row in rows),
        np.float32,
        weights=_weights(tasks if pairs is None else [tasks[index] for index in pairs[:, 0]], labels),
        reference=_unknown(rows) if implicit else None,
        pairs=pairs,
        units=units,
    )


def _unknown(rows: Sequence[_Row]) -> np.ndarray:
    """0 at the agent's tokens, NaN at all others."""
    agent = np.concatenate([np.empty(0, bool), *(row.agent for row in rows)])
    return np.where(agent, np.float32(0.0), np.float32(np.nan))


def _owners(rows: Sequence[_Row]) -> list[Owner]:
    return [label.owner for row in rows for label in row.labels]


def _weights(tasks: Sequence[Task], labels: Labels) -> np.ndarray | None:
    """How much each term of a loss counts, given the tasks that they come from; None: all the same."""
    totals: dict[str, float] = dict(zip(labels.environments, labels.weights, strict=False))

    def source(task: Task) -> str:
        names = task.environment, f"{task.environment}.{task.kind}"
        return next(name for name in totals if name in names) if totals else task.environment

    sources = [source(task) for task in tasks]
    counts = Counter(sources)
    weighted = bool(totals) or labels.balance
    weights = [totals.get(name, 1) / counts[name] for name in sources]
    # Equal weights change nothing, and a loss without weights is cheaper.
    return np.array(weights) if weighted and len(set(weights)) > 1 else None

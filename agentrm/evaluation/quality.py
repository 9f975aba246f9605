"""How good a reward model's values are on trees that it was not trained on, beside baselines that know nothing.

All numbers compare predicted values with the values V(s) of the trees. The accuracies compare states of one tree with
each other, which is what a search does; a tree counts once, however large it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentrm.search.tree import Tree

MARGIN = 0.05
"""Pairs whose labels differ by no more than this are ties and count nowhere."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """One tree: `labels`, `predictions`, `depths` (N,) of its valued states; `outcomes` (N,), NaN where no episode
    ended.
    """

    labels: np.ndarray
    predictions: np.ndarray
    depths: np.ndarray
    outcomes: np.ndarray


def quality(trees: Sequence[Tree], values: Sequence[Mapping[int, float]]) -> dict[str, Any]:
    """Metrics over all trees, and the same for each environment and each of its kinds.

    `values[i]` maps node indices of `trees[i]` to predictions. Keys of each group: `trees`, `states`; `mse` beside
    `mse_of_mean` (the labels' variance: always answering the mean); `spearman` over all states and
    `spearman_within_tree`; `pairwise`, the fraction of pairs of one tree that are ordered as their labels (a predicted
    tie counts half), beside `pairwise_of_mean` and `pairwise_of_depth` (shorter is better); `final` and
    `final_of_depth`, the same over pairs of finished episodes with different outcomes (within a tree, the area under
    the ROC curve where outcomes are 0 and 1). A metric is None where no tree has a pair or a variance to measure it on.
    """
    groups: dict[str, list[_Scored]] = defaultdict(list)
    for tree, predicted in zip(trees, values, strict=True):
        nodes = sorted(predicted)
        if not nodes:
            continue
        scored = _Scored(
            np.array([tree.nodes[i].value for i in nodes]),
            np.array([predicted[i] for i in nodes]),
            np.array([float(tree.nodes[i].depth) for i in nodes]),
            np.array([np.nan if (outcome := tree.nodes[i].outcome) is None else outcome for i in nodes]),
        )
        for name in ("all", tree.task.environment, f"{tree.task.environment}.{tree.task.kind}"):
            groups[name].append(scored)
    return {name: _metrics(groups[name]) for name in sorted(groups)}


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Rank correlation of two arrays (N,), ties at their mean rank; None where either is constant."""
    ranks = np.stack([_ranks(x), _ranks(y)])
    if len(x) < 2 or np.any(ranks.std(axis=1) == 0):
        return None
    return float(np.corrcoef(ranks)[0, 1])


def pairwise_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float | None:
    """The fraction of pairs with labels more than MARGIN apart that predictions order alike; a tie counts half."""
    above = labels[:, None] > labels[None, :] + MARGIN
    if not above.any():
        return None
    difference = (predictions[:, None] - predictions[None, :])[above]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def _metrics(trees: Sequence[_Scored]) -> dict[str, float | int | None]:
    labels = np.concatenate([tree.labels for tree in trees])
    predictions = np.concatenate([tree.predictions for tree in trees])

    def mean(metric: Callable[[_Scored], float | None]) -> float | None:
        measured = [value for value in map(metric, trees) if value is not None]
        return float(np.mean(measured)) if measured else None

    def final(score: Callable[[_Scored], np.ndarray]) -> float | None:
        def metric(tree: _Scored) -> float | None:
            ended = ~np.isnan(tree.outcomes)
            return pairwise_accuracy(tree.outcomes[ended], score(tree)[ended])

        return mean(metric)

    return {
        "trees": len(trees),
        "states": len(labels),
        "mse": float(np.mean((predictions - labels) ** 2)),
        "mse_of_mean": float(labels.var()),
        "spearman": spearman(labels, predictions),
        "spearman_within_tree": mean(lambda tree: spearman(tree.labels, tree.predictions)),
        "pairwise": mean(lambda tree: pairwise_accuracy(tree.labels, tree.predictions)),
        "pairwise_of_mean": mean(lambda tree: pairwise_accuracy(tree.labels, np.full_like(tree.labels, labels.mean()))),
        "pairwise_of_depth": mean(lambda tree: pairwise_accuracy(tree.labels, -tree.depths)),
        "final": final(lambda tree: tree.predictions),
        "final_of_depth": final(lambda tree: -tree.depths),
    }


def _ranks(x: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]

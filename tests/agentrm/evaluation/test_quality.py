"""Held-out metrics against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from agentrm.environments.base import Task
from agentrm.evaluation.quality import pairwise_accuracy, quality, spearman
from agentrm.search.tree import Node, Tree


def tree(kind: str, values: list[float], outcomes: list[float | None]) -> Tree:
    """A root and its children."""
    nodes = [
        Node(parent=min(i, 1) - 1, depth=min(i, 1), observation="", visits=1, value=value, outcome=outcome)
        for i, (value, outcome) in enumerate(zip(values, outcomes, strict=True))
    ]
    return Tree(Task("toy", kind, "train", 0), nodes)


def test_spearman_by_hand() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(x, np.array([10.0, 20.0, 30.0, 99.0])) == pytest.approx(1.0)
    assert spearman(x, -x) == pytest.approx(-1.0)
    # One swap of neighbours: 1 - 6 * 2 / (4 * 15).
    assert spearman(x, np.array([2.0, 1.0, 3.0, 4.0])) == pytest.approx(0.8)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, sums of squares 4.5 and 5.
    assert spearman(np.array([1.0, 2.0, 2.0, 3.0]), x) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman(x, np.ones(4)) is None


def test_pairwise_accuracy_by_hand() -> None:
    labels = np.array([0.0, 0.5, 1.0, 0.52])
    # (0.5, 0.52) is within the margin; of the other five pairs only (0, 0.5) is predicted wrongly and (0, 0.52) tied.
    assert pairwise_accuracy(labels, np.array([0.3, 0.2, 0.9, 0.3])) == pytest.approx(3.5 / 5)
    assert pairwise_accuracy(labels, np.zeros(4)) == 0.5
    assert pairwise_accuracy(np.full(4, 0.3), labels) is None


def test_quality_of_one_tree_by_hand() -> None:
    grown = tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0])
    metrics = quality([grown], [{0: 0.5, 1: 0.75, 2: 0.25}])
    assert set(metrics) == {"all", "toy", "toy.a"}
    assert metrics["all"] == metrics["toy"] == metrics["toy.a"]
    assert metrics["all"] == pytest.approx(
        {
            "trees": 1,
            "states": 3,
            "mse": 0.125 / 3,
            "mse_of_mean": 0.5 / 3,
            "spearman": 1.0,
            "spearman_within_tree": 1.0,
            "pairwise": 1.0,
            "pairwise_of_mean": 0.5,
            # Root above child: right for the failed child, wrong for the solved one; the two children tie.
            "pairwise_of_depth": 0.5,
            "final": 1.0,
            "final_of_depth": 0.5,
        }
    )


def test_each_tree_counts_once_and_kinds_are_apart() -> None:
    trees = [
        tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0]),
        tree("b", [0.5, 0.5], [None, 0.5]),
        tree("b", [0.2, 0.8], [None, 0.8]),
    ]
    metrics = quality(trees, [{0: 0.5, 1: 0.0, 2: 1.0}, {0: 0.1, 1: 0.9}, {0: 0.1, 1: 0.9}])
    assert metrics["toy.a"]["pairwise"] == 0.0
    assert metrics["toy.b"]["pairwise"] == 1.0
    assert metrics["all"]["pairwise"] == 0.5, "the tree without a pair does not count"
    assert metrics["toy.b"]["final"] is None
    assert (metrics["all"]["trees"], metrics["all"]["states"]) == (3, 7)


def test_a_tree_without_predictions_is_left_out() -> None:
    assert quality([tree("a", [0.5], [None])], [{}]) == {}

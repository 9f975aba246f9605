"""Held-out metrics against values computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import (
    ACCURACIES,
    OF_ACTIONS,
    auc,
    brier,
    calibration_error,
    leads,
    pairwise_accuracy,
    quality,
    spearman,
)
from agentrm.reports.quality_table import is_judged, probabilities, rows, verdicts

SETTINGS = Settings(resamples=200, confidence=0.9, seed=0)


def tree(kind: str, values: list[float], outcomes: list[float | None], index: int = 0) -> Tree:
    """A root and its children; the i-th child was sampled with log-probability -i."""
    nodes = [
        Node(
            parent=min(i, 1) - 1,
            depth=min(i, 1),
            observation="",
            action=str(i),
            logprob=-float(i),
            visits=1,
            value=value,
            outcome=outcome,
        )
        for i, (value, outcome) in enumerate(zip(values, outcomes, strict=True))
    ]
    return Tree(Task("toy", kind, "train", index), nodes)


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
    predictions = np.array([0.3, 0.2, 0.9, 0.3])
    assert pairwise_accuracy(labels, predictions) == pytest.approx(3.5 / 5)
    assert pairwise_accuracy(labels, np.zeros(4)) == 0.5
    assert pairwise_accuracy(np.full(4, 0.3), labels) is None
    # Matched pairs: (0, 0.5) wrong; (1, 0.52) right.
    assert pairwise_accuracy(labels, predictions, np.array([1, 1, 2, 2])) == 0.5
    assert pairwise_accuracy(labels, predictions, np.arange(4)) is None


def test_the_area_under_the_curve_by_hand() -> None:
    predictions = np.array([0.1, 0.4, 0.4, 0.8])
    # Two successes, two failures: of four pairs one is wrong and one tied.
    assert auc(np.array([1.0, 0.0, 1.0, 0.0]), predictions) == pytest.approx(0.5 / 4)
    assert auc(np.array([0.0, 0.0, 1.0, 1.0]), predictions) == pytest.approx(3.5 / 4)
    # A state of label 0.5 is half a success and half a failure: 0.5 * (0 + 0.25) + 1 * (1 + 0.5), over 1.5 * 1.5.
    assert auc(np.array([0.5, 0.0, 1.0]), np.array([1.0, 0.0, 2.0])) == pytest.approx(
        (0.5 * (1 + 0.25) + 1 * (1 + 0.5)) / (1.5 * 1.5)
    )
    assert auc(np.ones(3), np.arange(3.0)) is None and auc(np.zeros(3), np.arange(3.0)) is None


def test_errors_of_probabilities_by_hand() -> None:
    labels, chances = np.array([1.0, 0.0, 0.5]), np.array([0.8, 0.4, 0.1])
    assert brier(labels, chances) == pytest.approx((0.04 + 0.16 + 0.5 * 0.81 + 0.5 * 0.01) / 3)
    # Fewer states than tenths: each stands alone.
    assert calibration_error(labels, chances) == pytest.approx((0.2 + 0.4 + 0.4) / 3)
    # Twenty states in tenths of two, each of which is right on the mean.
    twice = np.repeat(np.linspace(0.05, 0.95, 10), 2)
    assert calibration_error(twice + np.tile([-0.05, 0.05], 10), twice) == pytest.approx(0, abs=1e-12)


def test_estimates_and_chances_are_measured_and_values_ordered() -> None:
    grown = tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0])
    logits, estimates, chances = {0: 0.0, 1: 3.0, 2: -3.0}, {0: 0.5, 1: 0.75, 2: 0.25}, {0: 0.5, 1: 1.0, 2: 0.0}
    metrics = quality([grown], [logits], SETTINGS, {"toy.a"}, estimates=[estimates], chances=[chances])
    found = metrics["toy"]
    assert found["mse"]["value"] == pytest.approx(0.125 / 3) and found["calibration"][0]["predicted"] == 0.25
    assert found["methods"]["reward model"]["siblings"]["value"] == 1.0
    # The root's success (0.5) is above the failed child and ties with its own failure; the other is above both.
    assert found["auc"] == pytest.approx((0.5 * (1 + 0.25) + 1 * 1.5) / 2.25)
    assert found["brier"] == pytest.approx((0.25 + 0.0625 + 0.0625) / 3)
    assert found["calibration_error"] == pytest.approx(0.5 / 3)
    assert found["calibrated"] == {"brier": pytest.approx(0.25 / 3), "calibration_error": 0.0}
    assert list(probabilities(metrics)) == [
        "toy: area under the ROC curve 0.944, Brier score 0.125, expected calibration error 0.167; calibrated on other "
        "tasks Brier score 0.083, expected calibration error 0.000."
    ]


def test_figures_of_actions_stand_beside_those_of_states() -> None:
    metrics = quality([tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0])], [{1: 0.2, 2: 0.1}], SETTINGS, {"toy.a"})
    both = metrics | {f"{name}{OF_ACTIONS}": group for name, group in metrics.items()}
    assert [row[0] for row in rows(both)][::4] == ["toy (1)", "toy, actions (1)"]
    assert [row[0] for row in rows(metrics)][::4] == ["toy (1)"]
    assert len(verdicts(both)) == 2 * len(verdicts(metrics))


def test_trees_of_kinds_that_were_not_learned_stand_apart() -> None:
    grown, other = tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0]), tree("b", [0.5, 1.0, 0.0], [None, 1.0, 0.0])
    other.task = Task("toy", "b", "valid", 0)
    right, wrong = {0: 0.5, 1: 0.75, 2: 0.25}, {0: 0.5, 1: 0.25, 2: 0.75}
    metrics = quality([grown, other], [right, wrong], SETTINGS, {"toy.a"})
    assert metrics.keys() == {"all", "toy", "toy.a", "unseen toy", "unseen toy.b"}
    found = {name: group["methods"]["reward model"]["siblings"]["value"] for name, group in metrics.items()}
    assert found == {"all": 1, "toy": 1, "toy.a": 1, "unseen toy": 0, "unseen toy.b": 0}
    assert [row[0] for row in rows(metrics)][::4] == ["toy (1)", "unseen toy (1)"]


def test_quality_of_one_tree_by_hand() -> None:
    grown = tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0])
    metrics = quality([grown], [{0: 0.5, 1: 0.75, 2: 0.25}], SETTINGS, {"toy.a"})
    assert set(metrics) == {"all", "toy", "toy.a"}
    assert metrics["all"] == metrics["toy"] == metrics["toy.a"]
    found = metrics["all"]
    assert (found["trees"], found["states"], found["spearman"]) == (1, 3, pytest.approx(1.0))
    assert found["mse"]["value"] == pytest.approx(0.125 / 3)
    assert found["mse_of_mean"] == pytest.approx(0.5 / 3)
    assert found["mse_ratio"]["value"] == pytest.approx(0.25)
    values = {
        method: {name: of_method[name] and of_method[name]["value"] for name in ("spearman_within_tree", *ACCURACIES)}
        for method, of_method in found["methods"].items()
    }
    assert values["reward model"] == pytest.approx(
        {
            "spearman_within_tree": 1.0,
            "pairwise": 1.0,
            "pairwise_equal_depth": 1.0,
            "siblings": 1.0,
            "final": 1.0,
            "final_equal_depth": 1.0,
        }
    )
    # Root above child: right for the failed child, wrong for the solved one; the two children tie.
    assert values["length"] == pytest.approx(
        {
            "spearman_within_tree": 0.0,
            "pairwise": 0.5,
            "pairwise_equal_depth": 0.5,
            "siblings": 0.5,
            "final": 0.5,
            "final_equal_depth": 0.5,
        }
    )
    # 0 at the root, -1 at the solved child, -2 at the failed one: only (solved, root) is ordered wrongly.
    assert values["policy log-probability"]["pairwise"] == pytest.approx(2 / 3)
    assert values["policy log-probability"]["siblings"] == 1.0
    assert found["methods"]["reward model"]["lead"]["length"]["pairwise"]["value"] == 0.5
    assert found["methods"]["reward model"]["beats"]["length"] is True
    assert found["calibration"] == [
        {"predicted": 0.25, "label": 0.0, "states": 1},
        {"predicted": 0.5, "label": 0.5, "states": 1},
        {"predicted": 0.75, "label": 1.0, "states": 1},
    ]
    assert json.loads(json.dumps(metrics)) == metrics


def test_the_policys_likelihood_beside_the_value() -> None:
    # The values do not tell the children apart; the log-probabilities, 0, -1 and -2, prefer the right one.
    values = [{0: 0.75, 1: 0.5, 2: 0.5}]
    metrics = quality([tree("a", [0.8, 1.0, 0.0], [None, 1.0, 0.0])], values, SETTINGS, {"toy.a"}, likelihood=0.1)
    found = metrics["toy"]
    assert found["methods"]["reward model"]["siblings"]["value"] == 0.5
    # (root, failed) and (solved, failed) are ordered rightly, (solved, root) is not.
    assert found["methods"]["reward model + log-probability"]["siblings"]["value"] == 1.0
    assert found["methods"]["reward model + log-probability"]["pairwise"]["value"] == pytest.approx(2 / 3)
    assert found["methods"]["reward model"]["lead"]["policy log-probability"]["siblings"]["value"] == -0.5
    assert (
        found["methods"]["reward model + log-probability"]["lead"]["policy log-probability"]["siblings"]["value"] == 0
    )
    assert found["methods"]["reward model + log-probability"]["beats"] == {
        "random": False,
        "length": True,
        "policy log-probability": False,
    }
    shown = {row[1]: row for row in rows(metrics)}
    assert shown["reward model + log-probability"][-2:] == ("", "length")
    assert [name for name, row in shown.items() if is_judged(row)] == ["reward model", "reward model + log-probability"]
    assert verdicts(metrics) == [
        "On the held-out trees of toy the reward model + log-probability is not shown to beat random, policy "
        "log-probability: distrust what it gains there."
    ]
    # Errors are those of the values alone.
    assert found["mse"]["value"] == pytest.approx((0.05**2 + 0.5**2 + 0.5**2) / 3)


def test_each_tree_counts_once_and_kinds_are_apart() -> None:
    trees = [
        tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0]),
        tree("b", [0.5, 0.5], [None, 0.5]),
        tree("b", [0.2, 0.8], [None, 0.8]),
    ]
    metrics = quality(
        trees, [{0: 0.5, 1: 0.0, 2: 1.0}, {0: 0.1, 1: 0.9}, {0: 0.1, 1: 0.9}], SETTINGS, {"toy.a", "toy.b"}
    )
    pairwise = {name: group["methods"]["reward model"]["pairwise"] for name, group in metrics.items()}
    assert pairwise["toy.a"]["value"] == 0.0
    assert pairwise["toy.b"]["value"] == 1.0
    assert (pairwise["all"]["value"], pairwise["all"]["trees"]) == (0.5, 2), "the tree without a pair does not count"
    assert pairwise["all"]["low"] == 0.0 and pairwise["all"]["high"] == 1.0
    assert metrics["toy.b"]["methods"]["reward model"]["final"] is None
    assert (metrics["all"]["trees"], metrics["all"]["states"]) == (3, 7)


def test_a_model_that_only_counts_steps_does_not_beat_length() -> None:
    trees = [tree("a", [0.9, 0.4, 0.2, 0.7], [None, 0.4, 0.2, 0.7], index) for index in range(5)]
    by_depth = quality(trees, [{0: 0.0, 1: -1.0, 2: -1.0, 3: -1.0}] * 5, SETTINGS, {"toy.a"})["toy"]
    assert by_depth["methods"]["reward model"]["lead"]["length"]["pairwise"]["value"] == 0.0
    assert by_depth["methods"]["reward model"]["beats"]["length"] is False
    # Perfect among siblings but no better than length over all pairs is not enough either.
    only_siblings = quality(trees, [{0: 0.5, 1: 0.4, 2: 0.2, 3: 0.7}] * 5, SETTINGS, {"toy.a"})["toy"]
    assert only_siblings["methods"]["reward model"]["lead"]["length"]["siblings"]["value"] == 0.5
    assert only_siblings["methods"]["reward model"]["lead"]["length"]["pairwise"]["value"] == pytest.approx(
        5 / 6 - 3 / 6 - 0.5 * 3 / 6
    )
    assert only_siblings["methods"]["reward model"]["beats"]["length"] is True
    worse = quality(trees, [{0: -9.0, 1: 0.4, 2: 0.2, 3: 0.7}] * 5, SETTINGS, {"toy.a"})["toy"]
    assert worse["methods"]["reward model"]["lead"]["length"]["pairwise"]["value"] == pytest.approx(3 / 6 - 4.5 / 6)
    assert worse["methods"]["reward model"]["beats"]["length"] is False


def test_what_cannot_be_measured_is_none() -> None:
    metrics = quality([tree("a", [0.5], [None])], [{0: 0.5}], SETTINGS, {"toy.a"})["all"]
    assert metrics["methods"]["reward model"]["beats"]["length"] is None
    assert metrics["mse_ratio"] is None
    assert metrics["mse"]["value"] == 0.0


def test_a_tree_without_predictions_is_left_out() -> None:
    assert quality([tree("a", [0.5], [None])], [{}], SETTINGS, {"toy.a"}) == {}


def test_one_model_leads_another_by_tree() -> None:
    # Two children each, 1 and 0: the first model orders both trees, the second only one of them.
    trees = [tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0], index) for index in range(2)]
    good, bad = {0: 0.5, 1: 0.9, 2: 0.1}, {0: 0.5, 1: 0.1, 2: 0.9}
    found = leads(trees, [good, good], [good, bad], SETTINGS)
    assert found["siblings"] == {"value": 0.5, "low": 0.0, "high": 1.0, "trees": 2}
    assert found["final"] == found["siblings"]
    # Calibrated on the other tree, the first model's values are the labels. The second model's have another meaning in
    # each tree, so that what is learned of one is wrong of the other.
    brier_lead = found["brier"]
    assert brier_lead is not None and brier_lead["value"] > 0 and brier_lead["trees"] == 2
    back = leads(trees, [good, bad], [good, good], SETTINGS)
    assert back["brier"] is not None and back["brier"]["value"] == pytest.approx(-brier_lead["value"])
    same = leads(trees, [good, good], [good, good], SETTINGS)
    assert same["brier"] == {"value": 0.0, "low": 0.0, "high": 0.0, "trees": 2}


def test_models_are_compared_on_what_both_value() -> None:
    trees = [tree("a", [0.5, 1.0, 0.0], [None, 1.0, 0.0], index) for index in range(2)]
    every = {0: 0.5, 1: 0.9, 2: 0.1}
    assert leads(trees, [every, {}], [{0: 0.5}, every], SETTINGS) == {"brier": None, **dict.fromkeys(ACCURACIES)}

"""Means, paired gains and intervals against values that were worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest

from agentrm.core.errors import UserError
from agentrm.evaluation.metrics import Bootstrap, Settings, summarise


def episode(task: str, method: str, outcome: float, error: str = "", **changes: object) -> dict[str, object]:
    return {
        "group": "held-in",
        "environment": "toy",
        "kind": "any",
        "task": task,
        "method": method,
        "outcome": outcome,
        "progress": outcome / 2,
        "success": float(outcome == 1),
        "policy_tokens": 10.0,
        "scored_states": 0.0,
        "reward_tokens": 0.0,
        "cached_tokens": 0.0,
        "environment_steps": 4.0,
        "seconds": 0.5,
        "error": error,
    } | changes


def rows(*episodes: dict[str, object], **settings: object) -> dict[str, dict[str, object]]:
    table = summarise(pa.Table.from_pylist(list(episodes)), ["group"], Settings(**settings))
    return {row["method"]: row for row in table.to_pylist()}


THREE_METHODS = [
    episode(task, method, outcome)
    for task, outcomes in {
        "a": (0.2, 1.0, 1.0),
        "b": (0.4, 0.0, 1.0),
        "c": (0.0, 0.0, 0.0),
        "d": (0.6, 1.0, 1.0),
    }.items()
    for method, outcome in zip(("sampled mean", "best of 5", "oracle best of 5"), outcomes, strict=True)
]


def test_means_gains_and_closed_distance() -> None:
    found = rows(*THREE_METHODS)
    assert list(found) == ["sampled mean", "best of 5", "oracle best of 5"]
    best = found["best of 5"]
    assert best["tasks"] == 4
    assert best["outcome"] == pytest.approx(0.5)
    assert best["success"] == pytest.approx(0.5)
    assert best["progress"] == pytest.approx(0.25)
    # Sampled mean 0.3, oracle 0.75: of the distance 0.45 the gain 0.2 closes 4/9.
    assert best["gain"] == pytest.approx(0.2)
    assert best["closed"] == pytest.approx(4 / 9)
    assert found["oracle best of 5"]["closed"] == pytest.approx(1.0)
    assert found["sampled mean"]["gain"] == 0
    assert best["policy_tokens"] == 10
    assert best["seconds"] == 0.5


def test_the_interval_is_the_exact_bootstrap_distribution_of_two_tasks() -> None:
    """Two tasks with 0 and 1 resample to means 0, 1/2, 1 with odds 1/4, 1/2, 1/4."""
    bootstrap = Bootstrap(2, resamples=20_000, confidence=0.4, seed=0)
    interval = bootstrap.mean(np.array([0.0, 1.0]))
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 0.5)
    wide = Bootstrap(2, resamples=20_000, confidence=0.6, seed=0).mean(np.array([0.0, 1.0]))
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_the_interval_agrees_with_all_resamples_of_four_tasks() -> None:
    values = np.array([0.0, 0.2, 0.7, 1.0])
    means = [values[list(drawn)].mean() for drawn in itertools.product(range(4), repeat=4)]
    low, high = np.quantile(means, [0.05, 0.95])
    interval = Bootstrap(4, resamples=100_000, confidence=0.9, seed=3).mean(values)
    # Neighbouring means are 0.05 apart at most.
    assert interval.low == pytest.approx(low, abs=0.051)
    assert interval.high == pytest.approx(high, abs=0.051)
    assert interval.low < 0.475 < interval.high


def test_gains_are_paired() -> None:
    """A method that is 0.1 better on every task has no spread in its gain, however much tasks differ."""
    episodes = [
        episode(str(task), method, task / 10 + better)
        for task in range(8)
        for method, better in (("sampled mean", 0.0), ("best of 5", 0.1))
    ]
    best = rows(*episodes)["best of 5"]
    assert best["gain_low"] == pytest.approx(0.1)
    assert best["gain_high"] == pytest.approx(0.1)
    assert best["outcome_high"] - best["outcome_low"] > 0.1
    assert math.isnan(best["closed"])


def test_the_lead_is_over_the_same_search_by_the_log_probability() -> None:
    names = ("likeliest of 5", "best of 5", "beam 3x3", "beam 3x3, log-probability", "greedy")
    episodes = [
        episode(str(task), method, task / 10 + better)
        for task in range(8)
        for method, better in zip(names, (0.0, 0.1, 0.0, 0.2, 0.3), strict=True)
    ]
    found = rows(*episodes)
    for name, lead in (("best of 5", 0.1), ("beam 3x3", -0.2)):
        assert [found[name][key] for key in ("lead", "lead_low", "lead_high")] == pytest.approx([lead] * 3)
    assert all(math.isnan(found[name]["lead"]) for name in set(names) - {"best of 5", "beam 3x3"})


def test_the_best_lead_is_over_the_best_of_all_that_needs_no_reward_model() -> None:
    outcomes = {
        "greedy": 0.1,
        "sampled mean": 0.2,
        "best of 5": 0.5,
        "shortest of 5": 0.4,
        "likeliest of 5": 0.3,
        "majority of 5": 0.35,
        "oracle best of 5": 0.9,
        "beam 3x3": 0.6,
        "beam 3x3, random scores": 0.1,
        "beam 3x3, log-probability": 0.7,
    }
    found = rows(*(episode(task, method, outcome) for task in "ab" for method, outcome in outcomes.items()))
    keys = ("best_lead", "best_lead_low", "best_lead_high")
    # Another search by the log-probability is no rival of Best-of-5, and the oracle is nobody's.
    for name, rival, lead in (
        ("best of 5", "shortest of 5", 0.1),
        ("beam 3x3", "beam 3x3, log-probability", -0.1),
    ):
        assert found[name]["rival"] == rival
        assert [found[name][key] for key in keys] == pytest.approx([lead] * 3)
    others = set(found) - {"best of 5", "beam 3x3"}
    assert all(found[name]["rival"] is None and math.isnan(found[name]["best_lead"]) for name in others)


def test_no_room_between_mean_and_oracle_leaves_the_share_undefined() -> None:
    episodes = [
        episode(task, method, 1.0) for task in "ab" for method in ("sampled mean", "best of 5", "oracle best of 5")
    ]
    assert math.isnan(rows(*episodes)["best of 5"]["closed"])


def test_a_failed_environment_leaves_its_task_out_of_every_method() -> None:
    broken = [
        episode("e", "sampled mean", 1.0),
        episode("e", "best of 5", 0.0, error="the engine crashed"),
        episode("e", "oracle best of 5", 1.0),
        episode("f", "best of 5", 1.0),
    ]
    found = rows(*THREE_METHODS, *broken)
    assert {row["tasks"] for row in found.values()} == {4}
    assert {row["failed"] for row in found.values()} == {2}
    assert found["sampled mean"]["outcome"] == pytest.approx(0.3)


def test_the_seed_decides_the_interval_and_the_order_of_episodes_does_not() -> None:
    first = rows(*THREE_METHODS, resamples=200, seed=1)
    again = rows(*THREE_METHODS[::-1], resamples=200, seed=1)
    other = rows(*THREE_METHODS, resamples=200, seed=2)
    # NaN, which a method without a lead has, is written like itself but not equal to itself.
    assert repr(first["best of 5"]) == repr(again["best of 5"])
    assert repr(first) != repr(other)


def test_groups_are_apart() -> None:
    held_out = [row | {"group": "held-out kinds", "outcome": 0.0} for row in THREE_METHODS]
    table = summarise(pa.Table.from_pylist(THREE_METHODS + held_out), ["group"]).to_pylist()
    assert {(row["group"], row["outcome"]) for row in table if row["method"] == "best of 5"} == {
        ("held-in", 0.5),
        ("held-out kinds", 0.0),
    }


def test_a_missing_column_and_a_repeated_episode_are_named() -> None:
    table = pa.Table.from_pylist(THREE_METHODS)
    with pytest.raises(UserError, match="no column seconds"):
        summarise(table.drop_columns(["seconds"]), ["group"])
    with pytest.raises(UserError, match="best of 5 on a twice"):
        rows(*THREE_METHODS, episode("a", "best of 5", 1.0))

"""The best of N of stored episodes, worked out by hand."""

from __future__ import annotations

from math import inf

import pytest

from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards.best_of_n import Attempt, best_of_n, expected_best


def test_the_expectation_is_over_all_subsets() -> None:
    # Of the pairs of {3: 0, 2: 1, 1: 1}, two hold the best score, whose outcome is 0.
    assert expected_best([3, 2, 1], [0, 1, 1], 2) == pytest.approx(1 / 3)
    assert expected_best([3, 2, 1], [0, 1, 1], 1) == pytest.approx(2 / 3)
    assert expected_best([3, 2, 1], [0, 1, 1], 3) == 0


def test_equal_scores_share_the_choice() -> None:
    assert expected_best([1, 1, 0], [1, 0, 0], 3) == 0.5
    # Pairs: both equal ones (1/2), the first with the last (1), the second with the last (0).
    assert expected_best([1, 1, 0], [1, 0, 0], 2) == pytest.approx(0.5)
    assert expected_best([-inf, -inf], [1, 0], 2) == 0.5


def test_rules_stand_beside_each_other_on_tasks_with_enough_episodes() -> None:
    first = [Attempt(0, 0.1, 30, -9), Attempt(1, 0.9, 20, -1), Attempt(1, 0.8, 40, -3), Attempt(0, 0.2, 10, -2)]
    second = [Attempt(1, 0.3, 5, -1), Attempt(0, 0.7, 6, -2)]
    alone = [Attempt(1, 0.0, 1, -1)]
    rows = best_of_n([first, second, alone], Settings(resamples=100))
    assert [(row.n, row.tasks) for row in rows] == [(1, 2), (2, 2), (4, 1)]
    of_two = {name: interval.value for name, interval in rows[1].outcomes.items()}
    # First task: 5 of 6 pairs hold a success, which the model always finds. The shortest has outcome 0 in 3 pairs, the
    # next 1 in 2, then 0 in 1; the longest 1 in 3, 0 in 2, then 1 in 1.
    assert of_two == pytest.approx(
        {
            "reward model": (5 / 6 + 0) / 2,
            "oracle": (5 / 6 + 1) / 2,
            "random": 0.5,
            "shortest": (2 / 6 + 1) / 2,
            "longest": (4 / 6 + 0) / 2,
            "likeliest": (4 / 6 + 1) / 2,
        }
    )
    assert rows[2].outcomes["reward model"].value == rows[2].outcomes["oracle"].value == 1


def test_without_all_likelihoods_there_is_no_likeliest_and_single_episodes_say_nothing() -> None:
    (row, _) = best_of_n([[Attempt(1, 0.3, 5, -1), Attempt(0, 0.7, 6)]], Settings(resamples=10))
    assert "likeliest" not in row.outcomes
    assert best_of_n([[Attempt(1, 0.3, 5)]], Settings()) == []

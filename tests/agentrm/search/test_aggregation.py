"""The value of a trajectory from the scores of its states."""

from __future__ import annotations

from math import inf

import pytest

from agentrm.config.schema import Aggregate
from agentrm.search.aggregation import aggregate


@pytest.mark.parametrize(
    ("how", "value"),
    [(Aggregate.last, 0.5), (Aggregate.min, -0.5), (Aggregate.mean, 0.5), (Aggregate.product, 0.0)],
)
def test_by_hand(how: Aggregate, value: float) -> None:
    assert aggregate([1.5, -0.5, 0.5], how) == pytest.approx(value)


def test_a_product_is_of_probabilities() -> None:
    assert aggregate([1.5, 0.5, 0.5], Aggregate.product) == pytest.approx(0.25)


def test_an_unreadable_state_counts_unless_only_the_last_does() -> None:
    for how in Aggregate:
        assert aggregate([-inf, 0.5], how) == (0.5 if how is Aggregate.last else -inf)

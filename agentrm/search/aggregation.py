"""One value for a trajectory from the reward model's scores of its states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from agentrm.config.schema import Aggregate


def aggregate(scores: Sequence[float], how: Aggregate) -> float:
    """The value of a trajectory whose states after each action scored `scores`, in their order.

    A state that the reward model cannot read (-inf) makes the trajectory's value -inf, unless only the last one counts.
    """
    if how is Aggregate.last:
        return scores[-1]
    if not all(map(math.isfinite, scores)):
        return -math.inf
    if how is Aggregate.min:
        return min(scores)
    return fmean(scores) if how is Aggregate.mean else math.prod(map(clipped, scores))


def clipped(score: float) -> float:
    """A raw score within [0, 1], as outcomes are."""
    return min(max(score, 0.0), 1.0)

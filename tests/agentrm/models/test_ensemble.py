from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from agentrm.environments.base import Task
from agentrm.errors import UserError
from agentrm.models.ensemble import LowerConfidence
from agentrm.models.state import State

STATES = [State(Task("toy", "any", "train", index), "go") for index in range(3)]


class Fixed:
    def __init__(self, *values: float) -> None:
        self._values = values

    async def score(self, states: Sequence[State]) -> list[float]:
        return [self._values[state.task.index] for state in states]


def test_disagreement_costs() -> None:
    members = [Fixed(0.6, 0.9, 0.0), Fixed(0.6, 0.5, -math.inf)]
    # Means 0.6 and 0.7, deviations 0 and 0.2.
    assert asyncio.run(LowerConfidence(members, 1.0).score(STATES)) == pytest.approx([0.6, 0.5, -math.inf])
    assert asyncio.run(LowerConfidence(members, 0.0).score(STATES)) == pytest.approx([0.6, 0.7, -math.inf])
    assert asyncio.run(LowerConfidence(members[:1], 5.0).score(STATES[::-1])) == pytest.approx([0.0, 0.9, 0.6])


def test_no_members_are_refused() -> None:
    with pytest.raises(UserError, match="at least one"):
        LowerConfidence([])

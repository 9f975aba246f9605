"""Several reward models as one that distrusts what they disagree on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from agentrm.errors import UserError
from agentrm.models.base import RewardModel
from agentrm.models.state import State


class LowerConfidence:
    """Scores by mean - `penalty` * standard deviation (population form) over the members.

    A search picks the highest of many scores, so it picks errors too; states on which the members disagree lose. The
    members' scores must share one scale. A state that one member cannot score (-inf) scores -inf. Raises UserError
    without members.
    """

    def __init__(self, members: Sequence[RewardModel], penalty: float = 1.0) -> None:
        if not members:
            raise UserError("an ensemble needs at least one reward model")
        self._members = list(members)
        self._penalty = penalty

    async def score(self, states: Sequence[State]) -> list[float]:
        """One value per state."""
        scores = np.array(await asyncio.gather(*(member.score(states) for member in self._members)))
        usable = np.isfinite(scores).all(axis=0)
        values = np.full(len(states), -np.inf)
        kept = scores[:, usable]
        values[usable] = kept.mean(axis=0) - self._penalty * kept.std(axis=0)
        return values.tolist()

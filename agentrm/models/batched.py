"""One request for the states that several searches ask a reward model for at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from agentrm.config.schema import Engine
from agentrm.core.batching import Batcher
from agentrm.core.protocols import RewardModel
from agentrm.core.state import State

STATES = 64
_FEWEST = 4


class BatchedRewardModel:
    """A `RewardModel` for many searches: a request costs milliseconds, a state often less. Whole calls go together, up
    to about STATES; so many `requests` are under way at most.
    """

    def __init__(self, reward_model: RewardModel, requests: int = _FEWEST) -> None:
        self._reward_model = reward_model
        self._calls = Batcher(self._score, STATES, requests, len)

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `RewardModel`."""
        return await self._calls.ask(states)

    async def _score(self, calls: list[Sequence[State]]) -> list[list[float]]:
        scores = await self._reward_model.score([state for states in calls for state in states])
        by_call = []
        for states in calls:
            own, scores = scores[: len(states)], scores[len(states) :]
            by_call.append(own)
        return by_call


def requests(engine: Engine) -> int:
    """How many requests fill all the replicas that there may be: what they read at a time, and as much that waits."""
    states = 2 * engine.max_num_seqs * max(engine.replicas, engine.max_replicas or 0)
    return max(_FEWEST, states // STATES)

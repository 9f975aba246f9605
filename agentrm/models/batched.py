"""One request for the states that several searches ask a reward model for at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from agentrm.core.protocols import RewardModel
from agentrm.core.state import State

STATES = 64
REQUESTS = 4


class BatchedRewardModel:
    """A `RewardModel` for many searches: a request costs milliseconds, a state often less.

    What is waiting when a request goes out goes with it, whole calls up to about STATES; REQUESTS are under way at
    most, so that the engine need not wait.
    """

    def __init__(self, reward_model: RewardModel) -> None:
        self._reward_model = reward_model
        self._waiting: deque[tuple[Sequence[State], asyncio.Future[list[float]]]] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `RewardModel`."""
        answer: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        self._waiting.append((states, answer))
        if len(self._senders) < REQUESTS:
            sender = asyncio.create_task(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await answer

    async def _send(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            while self._waiting and sum(len(states) for states, _ in batch) < STATES:
                batch.append(self._waiting.popleft())
            try:
                scores = await self._reward_model.score([state for states, _ in batch for state in states])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for states, answer in batch:
                own, scores = scores[: len(states)], scores[len(states) :]
                if not answer.done():  # its search was cut
                    answer.set_result(own)

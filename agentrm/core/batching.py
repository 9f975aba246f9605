"""Calls that wait at the same time go together: a message or a request costs milliseconds, whatever it carries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

Call = TypeVar("Call")


class Batcher(Generic[Call]):
    """Hands calls to `send` in batches and gives each its own answer.

    What is waiting when a batch goes out goes with it, as long as its `weight` (default: 1 a call) stays below `most`;
    `under_way` batches are on their way at a time, so that whoever answers need not wait. `send` returns one answer per
    call, in order; what it raises fails all calls of the batch. All methods belong to one event loop at a time.
    """

    def __init__(
        self,
        send: Callable[[list[Call]], Awaitable[Sequence[Any]]],
        most: int,
        under_way: int,
        weight: Callable[[Call], int] = lambda call: 1,
    ) -> None:
        self._send = send
        self._most = most
        self._under_way = under_way
        self._weight = weight
        self._waiting: deque[tuple[Call, asyncio.Future[Any]]] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def ask(self, call: Call) -> Any:
        """The answer to one call."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if len(self._senders) < self._under_way:
            sender = asyncio.create_task(self._run())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await answer

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            weight = self._weight(batch[0][0])
            while self._waiting and weight < self._most:
                batch.append(self._waiting.popleft())
                weight += self._weight(batch[-1][0])
            try:
                answers = await self._send([call for call, _ in batch])
            except Exception as error:
                for _, waiting in batch:
                    if not waiting.done():
                        waiting.set_exception(error)
                continue
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if not waiting.done():  # its caller has given up
                    waiting.set_result(answer)

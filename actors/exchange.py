"""Many requests in a message: a call of an actor costs milliseconds of CPU at both ends, whatever it carries."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ray.actor import ActorHandle

# A message gathers for the first of these times per request under way, and for the second at most: a few requests
# hardly wait, and hundreds cost few messages.
_LINGER_S = 0.0001
_LONGEST_S = 0.05

Request = tuple[Any, ...]
"""The arguments of the function that a `BatchServer` serves."""
Answer = tuple[Any, Exception | None]
"""Its value, or the error that it raised."""


@dataclass(slots=True)
class _Client:
    """One client's requests: those under way, and the answers that it has not confirmed."""

    running: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    ready: dict[int, Answer] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)


class BatchServer:
    """The actor's side: serves requests of many clients concurrently, and keeps each answer until it is confirmed."""

    def __init__(self, serve: Callable[..., Awaitable[Any]]) -> None:
        self._serve = serve
        self._life = uuid.uuid4().hex
        self._clients: defaultdict[str, _Client] = defaultdict(_Client)

    @property
    def load(self) -> int:
        """Requests under way."""
        return sum(len(box.running) for box in self._clients.values())

    async def submit(self, client: str, requests: dict[int, Request]) -> str:
        """Begin with these requests, by number, but for those that are known already; returns this process's life."""
        box = self._clients[client]
        for number, request in requests.items():
            if number not in box.running and number not in box.ready:
                box.running[number] = asyncio.create_task(self._answer(box, number, request))
        return self._life

    async def collect(self, client: str, life: str, confirmed: list[int]) -> tuple[str, dict[int, Answer]]:
        """This process's life and all unconfirmed answers, once there are some.

        A client that knows of another life is told at once: what it had submitted is gone.
        """
        box = self._clients[client]
        for number in confirmed:
            box.ready.pop(number, None)
        if life == self._life:
            while not box.ready:
                box.filled.clear()
                await box.filled.wait()
            await _linger(len(box.running) + len(box.ready))
        return self._life, dict(box.ready)

    async def _answer(self, box: _Client, number: int, request: Request) -> None:
        try:
            box.ready[number] = await self._serve(*request), None
        except Exception as error:
            box.ready[number] = None, error
        del box.running[number]
        box.filled.set()


class BatchClient:
    """A client's side: `ask` is the served function, over one actor whose `submit` and `collect` are a server's.

    An actor that was started anew gets everything again that it had not answered. Raises what the function raises, and
    Ray's error when the actor is gone for good.
    """

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor
        self._client = uuid.uuid4().hex
        self._life = ""
        self._numbers = count()
        self._waiting: dict[int, tuple[Request, asyncio.Future[Any]]] = {}
        self._unsent: list[int] = []
        self._confirmed: list[int] = []
        self._submitting: asyncio.Task[None] | None = None
        self._collecting: asyncio.Task[None] | None = None

    async def ask(self, *request: Any) -> Any:
        """The answer to one request."""
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = request, answer
        self._send([number])
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    def _send(self, numbers: list[int]) -> None:
        self._unsent += numbers
        if self._submitting is None or self._submitting.done():
            self._submitting = asyncio.create_task(self._guarded(self._submit))

    async def _submit(self) -> None:
        while self._unsent:
            await _linger(len(self._waiting))
            numbers, self._unsent = self._unsent, []
            requests = {number: self._waiting[number][0] for number in numbers if number in self._waiting}
            life = await self._actor.submit.remote(self._client, requests)
            # Another life than the one known means lost requests; `_collect` hears of it and sees to them.
            self._life = self._life or life
            if self._collecting is None or self._collecting.done():
                self._collecting = asyncio.create_task(self._guarded(self._collect))

    async def _collect(self) -> None:
        while self._waiting:
            life, answers = await self._actor.collect.remote(self._client, self._life, self._confirmed)
            self._confirmed = list(answers)
            if life != self._life:
                self._life = life
                self._send(list(self._waiting))
            for number, (value, error) in answers.items():
                # What is answered no longer waits, or another `collect` would go out that nothing ever answers.
                _, waiting = self._waiting.pop(number, (None, None))
                if waiting is None or waiting.done():
                    continue
                if error is None:
                    waiting.set_result(value)
                else:
                    waiting.set_exception(error)

    async def _guarded(self, carry: Callable[[], Awaitable[None]]) -> None:
        try:
            await carry()
        except Exception as error:
            for _, waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(error)


async def _linger(requests: int) -> None:
    await asyncio.sleep(min(_LINGER_S * requests, _LONGEST_S))

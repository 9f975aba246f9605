"""Requests in bundles: every request gets its own answer, errors included, and none is lost with a process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.exchange import Answer, BatchClient, BatchServer, Request
from agentrm.core.errors import ModelError


class Actor:
    """An actor without Ray: its methods' `remote` are coroutines; counts the messages."""

    def __init__(self, desk: BatchServer) -> None:
        self.desk = desk
        self.messages = 0
        self.submit, self.collect = _Method(self, "submit"), _Method(self, "collect")


class _Method:
    def __init__(self, actor: Actor, name: str) -> None:
        self.actor, self.name = actor, name

    async def remote(self, *arguments: Any) -> Any:
        self.actor.messages += 1
        return await getattr(self.actor.desk, self.name)(*arguments)


async def half(number: float) -> float:
    await asyncio.sleep(0.001 * (number % 7))
    if number < 0:
        raise ModelError(f"{number} is negative")
    return number / 2


def test_every_request_has_its_answer_in_few_messages() -> None:
    actor = Actor(BatchServer(half))

    async def main() -> list[float]:
        line = BatchClient(actor)  # type: ignore[arg-type]
        return await asyncio.gather(*(line.ask(number) for number in range(200)))

    assert asyncio.run(main()) == [number / 2 for number in range(200)]
    assert actor.messages < 20


def test_nothing_is_asked_for_when_no_answer_is_awaited() -> None:
    actor = Actor(BatchServer(half))

    async def main() -> None:
        line = BatchClient(actor)  # type: ignore[arg-type]
        assert await line.ask(6) == 3
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert actor.messages == 2, "one submits, one collects"


def test_errors_go_to_those_who_asked() -> None:
    async def main() -> None:
        line = BatchClient(Actor(BatchServer(half)))  # type: ignore[arg-type]
        good, bad = await asyncio.gather(line.ask(4), line.ask(-1), return_exceptions=True)
        assert good == 2 and isinstance(bad, ModelError)
        assert await line.ask(8) == 4, "an error ends nothing but its request"

    asyncio.run(main())


def test_a_process_that_starts_anew_gets_everything_again() -> None:
    served: list[float] = []

    async def stuck(number: float) -> float:
        served.append(number)
        return await asyncio.Event().wait()

    async def main() -> list[float]:
        actor = Actor(BatchServer(stuck))
        line = BatchClient(actor)  # type: ignore[arg-type]
        first = [asyncio.create_task(line.ask(number)) for number in range(5)]
        while len(served) < 5:
            await asyncio.sleep(0.001)
        actor.desk = BatchServer(half)
        # Ray repeats a call that was under way, on the new process.
        assert line._collecting is not None
        line._collecting.cancel()
        return [*await asyncio.gather(*first, line.ask(10))]

    assert asyncio.run(main()) == [0, 0.5, 1, 1.5, 2, 5]


def test_a_repeated_message_changes_nothing() -> None:
    async def main() -> None:
        calls: list[float] = []

        async def count(number: float) -> float:
            calls.append(number)
            return number

        desk = BatchServer(count)
        requests: dict[int, Request] = {0: (7.0,), 1: (8.0,)}
        life = await desk.submit("me", requests)
        assert await desk.submit("me", requests) == life
        answers: dict[int, Answer] = {0: (7.0, None), 1: (8.0, None)}
        assert await desk.collect("me", life, []) == (life, answers)
        assert await desk.collect("me", life, []) == (life, answers), "kept until they are confirmed"
        assert await desk.collect("me", life, [0]) == (life, {1: (8.0, None)})
        assert calls == [7.0, 8.0]
        assert await desk.collect("me", "another life", [1]) == (life, {})

    asyncio.run(main())


def test_an_actor_that_is_gone_fails_all_who_wait() -> None:
    class Gone:
        async def remote(self, *arguments: Any) -> Any:
            raise ModelError("the replica is gone")

    class Dead:
        submit = collect = Gone()

    async def main() -> None:
        line = BatchClient(Dead())  # type: ignore[arg-type]
        answers = await asyncio.gather(line.ask(1), line.ask(2), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["the replica is gone"] * 2

    asyncio.run(main())


def test_who_no_longer_waits_is_forgotten() -> None:
    async def main() -> None:
        line = BatchClient(Actor(BatchServer(half)))  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.ask(6), 0.001)
        assert await line.ask(2) == 1 and not line._waiting

    asyncio.run(main())

"""Calls that go together, to a real environment host."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentrm.core.batching import Batcher
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.hosting.host import EnvironmentHost
from agentrm.environments.hosting.process import Answer, Call, value_of

CALLS, MESSAGES = 16, 2
TASKS = [Task("maze", "perfect_small", "test", index) for index in range(8)]


class Line:
    """Carries messages to a host, and remembers how many calls were in each and how many were under way at once."""

    def __init__(self, host: EnvironmentHost) -> None:
        self._host = host
        self.sizes: list[int] = []
        self.under_way = self.most = 0
        self.lost = False

    async def answer(self, calls: list[Call]) -> list[Answer]:
        if self.lost:
            raise ConnectionError("the actor died")
        self.sizes.append(len(calls))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        answers = await self._host.answer(calls)
        self.under_way -= 1
        return answers


Ask = Callable[..., Awaitable[Any]]


def over_a_line(use: Callable[[Ask, Line], Awaitable[None]]) -> Line:
    async def run() -> Line:
        host = EnvironmentHost(30.0, 64)
        line = Line(host)
        batches: Batcher[Call] = Batcher(line.answer, CALLS, MESSAGES)

        async def ask(*call: Any) -> Any:
            return value_of(await batches.ask(call))

        try:
            await use(ask, line)
        finally:
            await host.aclose()
        return line

    return asyncio.run(run())


def test_calls_that_wait_together_share_a_message() -> None:
    async def use(ask: Ask, line: Line) -> None:
        calls = [(task, actions) for actions in ((), ("move up",), ("look",), ("move left",)) for task in TASKS]
        observed = await asyncio.gather(*(ask("observe", *call) for call in calls))
        alone = [await ask("observe", *call) for call in calls]
        assert observed == alone

    line = over_a_line(use)
    together = line.sizes[:-32]
    assert sum(together) == 32
    assert len(together) <= 4
    assert max(together) <= CALLS
    assert line.most == MESSAGES
    assert line.sizes[-32:] == [1] * 32


def test_an_error_is_its_own_callers() -> None:
    async def use(ask: Ask, line: Line) -> None:
        good, bad = await asyncio.gather(
            ask("observe", TASKS[0], ()),
            ask("observe", Task("maze", "perfect_small", "test", 10**9), ()),
            return_exceptions=True,
        )
        assert good.text
        assert isinstance(bad, UserError)

    over_a_line(use)


def test_a_caller_that_was_cancelled_takes_nobody_with_it() -> None:
    async def use(ask: Ask, line: Line) -> None:
        calls = [asyncio.create_task(ask("observe", task, ())) for task in TASKS]
        await asyncio.sleep(0)
        calls[3].cancel()
        observed = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(observed[3], asyncio.CancelledError)
        assert sum(isinstance(each, BaseException) for each in observed) == 1
        assert (await ask("observe", TASKS[3], ())).text

    over_a_line(use)


def test_a_lost_actor_fails_the_calls_of_its_message_and_no_later_ones() -> None:
    async def use(ask: Ask, line: Line) -> None:
        line.lost = True
        with pytest.raises(ConnectionError):
            await ask("observe", TASKS[0], ())
        line.lost = False
        assert (await ask("observe", TASKS[0], ())).text

    over_a_line(use)

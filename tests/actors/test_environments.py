"""Messages to environment actors, without a cluster: a real host stands where the actor does."""

import asyncio
from types import SimpleNamespace

import pytest

from actors.environments import CALLS, MESSAGES, _Batches
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.hosting.host import EnvironmentHost
from agentrm.environments.hosting.process import Answer, Call

TASKS = [Task("maze", "perfect_small", "test", index) for index in range(8)]


class Line:
    """Carries messages to a host, and remembers how many calls were in each and how many were under way at once."""

    def __init__(self, host: EnvironmentHost) -> None:
        self._host = host
        self.sizes: list[int] = []
        self.under_way = self.most = 0
        self.answer = SimpleNamespace(remote=self._answer)

    async def _answer(self, calls: list[Call]) -> list[Answer]:
        self.sizes.append(len(calls))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        answers = await self._host.answer(calls)
        self.under_way -= 1
        return answers


def over_a_line(use) -> Line:
    async def run() -> Line:
        host = EnvironmentHost(30.0, 64)
        line = Line(host)
        try:
            await use(_Batches(line))
        finally:
            await host.aclose()
        return line

    return asyncio.run(run())


def test_calls_that_wait_together_share_a_message() -> None:
    async def use(batches: _Batches) -> None:
        calls = [(task, actions) for actions in ((), ("move up",), ("look",), ("move left",)) for task in TASKS]
        observed = await asyncio.gather(*(batches.call("observe", *call) for call in calls))
        alone = [await batches.call("observe", *call) for call in calls]
        assert observed == alone

    line = over_a_line(use)
    together = line.sizes[:-32]
    assert sum(together) == 32
    assert len(together) <= 4
    assert max(together) <= CALLS
    assert line.most == MESSAGES
    assert line.sizes[-32:] == [1] * 32


def test_an_error_is_its_own_callers() -> None:
    async def use(batches: _Batches) -> None:
        good, bad = await asyncio.gather(
            batches.call("observe", TASKS[0], ()),
            batches.call("observe", Task("maze", "perfect_small", "test", 10**9), ()),
            return_exceptions=True,
        )
        assert good.text
        assert isinstance(bad, UserError)

    over_a_line(use)


def test_a_caller_that_was_cancelled_takes_nobody_with_it() -> None:
    async def use(batches: _Batches) -> None:
        calls = [asyncio.create_task(batches.call("observe", task, ())) for task in TASKS]
        await asyncio.sleep(0)
        calls[3].cancel()
        observed = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(observed[3], asyncio.CancelledError)
        assert sum(isinstance(each, BaseException) for each in observed) == 1
        assert (await batches.call("observe", TASKS[3], ())).text

    over_a_line(use)


def test_a_lost_actor_fails_the_calls_of_its_message_and_no_later_ones() -> None:
    async def use(batches: _Batches) -> None:
        async def lost(calls: list[Call]) -> list[Answer]:
            raise ConnectionError("the actor died")

        line = batches._actor
        batches._actor = SimpleNamespace(answer=SimpleNamespace(remote=lost))
        with pytest.raises(ConnectionError):
            await batches.call("observe", TASKS[0], ())
        batches._actor = line
        assert (await batches.call("observe", TASKS[0], ())).text

    over_a_line(use)

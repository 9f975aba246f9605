"""Searches that ask at the same time share requests, and each gets its own scores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentrm.config.schema import Engine
from agentrm.core.errors import ModelError
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.models.batched import STATES, BatchedRewardModel, requests

TASK = Task("maze", "double_t", "train", 0)


def states(*numbers: int) -> list[State]:
    return [State.begin(TASK, str(number)) for number in numbers]


class Numbered:
    """Scores a state by its text; refuses a negative one."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.under_way = self.most = 0

    async def score(self, asked: Sequence[State]) -> list[float]:
        self.requests.append(len(asked))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        scores = [float(state.opening[0]["content"]) for state in asked]
        if min(scores) < 0:
            raise ModelError("no score")
        return scores


def test_calls_that_wait_go_together() -> None:
    model = Numbered()
    batched = BatchedRewardModel(model)

    async def ask() -> list[list[float]]:
        return await asyncio.gather(*(batched.score(states(number, number + 1)) for number in range(100)))

    assert asyncio.run(ask()) == [[number, number + 1] for number in range(100)]
    assert model.requests == [STATES] * 3 + [200 - 3 * STATES]


def test_the_requests_under_way_fill_all_replicas() -> None:
    assert requests(Engine(replicas=1, max_num_seqs=64)) == 4
    wide = Engine(replicas=1, max_replicas=16, max_num_seqs=128)
    assert requests(wide) * STATES >= 40 * STATES and requests(wide) * STATES == 2 * 16 * 128
    model = Numbered()
    batched = BatchedRewardModel(model, requests(wide))

    async def ask() -> None:
        await asyncio.gather(*(batched.score(states(*[number] * STATES)) for number in range(40)))

    asyncio.run(ask())
    assert model.most == 40 and model.requests == [STATES] * 40


def test_a_failed_request_fails_those_that_shared_it() -> None:
    async def ask() -> list[list[float] | BaseException]:
        batched = BatchedRewardModel(Numbered())
        first = await asyncio.gather(*(batched.score(states(number)) for number in (1, -1)), return_exceptions=True)
        return [*first, await batched.score(states(2))]

    failed, shared, after = asyncio.run(ask())
    assert isinstance(failed, ModelError) and isinstance(shared, ModelError) and after == [2]


def test_a_call_that_is_given_up_leaves_the_others() -> None:
    async def ask() -> list[float]:
        batched = BatchedRewardModel(Numbered())
        given_up = asyncio.create_task(batched.score(states(1)))
        kept = asyncio.create_task(batched.score(states(2)))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await kept

    assert asyncio.run(ask()) == [2]

"""The benchmark of scoring on a slow machine asks for no more than the service can do, and has figures all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.core.messages import Conversation
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per
from agentrm.service.api import create_app
from agentrm.service.client import AsyncScoringClient
from jobs.benchmarks.score import rate_of, under_load
from tests.servers import serving

STATES = [Conversation([{"role": "user", "content": f"You see a red ball {number}."}]) for number in range(5)]


def service(config: Config, seconds: float, seen: list[str]) -> AbstractContextManager[str]:
    """One that takes so long for each state, one after the other."""

    async def read(inputs: Sequence[Input], per: Per = Per.input) -> list[Reading]:
        seen.extend(str(each.messages[0]["content"]) for each in inputs if isinstance(each, Conversation))
        await asyncio.sleep(seconds * len(inputs))
        return [Reading([0.5], 1, 0) for _ in inputs]

    async def alive() -> bool:
        return True

    return serving(create_app(read, alive, config.serve, "m", 100, ["LABEL_0"], {}))


def config(deadline_s: float, address: str = "") -> Config:
    found = load("quickstart")
    port = int(address.rpartition(":")[2]) if address else 1
    return replace(found, serve=replace(found.serve, deadline_s=deadline_s, port=port, max_conversations=64))


@pytest.mark.parametrize(("seconds", "deadline_s", "expected"), [(0.2, 30.0, 5.0), (30.0, 0.3, 1 / 0.3)])
async def test_the_rate_of_a_slow_service(seconds: float, deadline_s: float, expected: float) -> None:
    seen: list[str] = []
    with service(config(deadline_s), seconds, seen) as address:
        async with AsyncScoringClient(address, timeout_s=60, retries=0) as client:
            rate = await rate_of(client, STATES, config(deadline_s))
    assert 0.4 * expected < rate <= 1.01 * expected
    assert len(set(seen)) == len(seen), "all of them are new"


async def test_a_service_that_answers_nobody_in_time_has_figures() -> None:
    with service(config(0.2), 60.0, []) as address:
        figures = await under_load(config(0.2, address), STATES, clients=2, seconds=1.0)
    assert figures["answered"] == 0 and figures["lost"] and figures["load_p50_ms"] is None

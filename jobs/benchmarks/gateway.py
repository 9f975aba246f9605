"""What the gateway costs beside the run's own policy, which answers by vLLM's own server behind it.

    agentrm benchmark gateway --clients 200 --seconds 60 --json

Turns of the run's own trees, each new to both models, by two ways in turn. One candidate: (a) that server, (b) the
gateway. Five: (c) that server asked for five, and then the reward model for their values, (d) the gateway. Then many
clients at once ask the gateway for one candidate each; `lost` are answers that are none. The run directory must hold
trees, a policy with weights and a reward model.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from dataclasses import replace
from itertools import count, islice
from random import Random
from statistics import median
from typing import Any

import aiohttp
from rich.console import Console

from actors.gateway import gateway
from actors.policy_server import PREFIX
from actors.serving import ScoringService, application, can_address, scorers_of
from agentrm import storage
from agentrm.config.schema import Config, Gateway
from agentrm.core.messages import Conversation, Message, checked, text_of
from agentrm.data.trees import TreeStore
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main

_K = 5
_TURNS = 120
_TREES = 200

Milliseconds = float


def local(settings: Gateway, k: int) -> Gateway:
    """A gateway for this machine alone, which gives up to `k` candidates and keeps none."""
    return replace(settings, host="127.0.0.1", api_key="", record="", max_k=max(settings.max_k, k))


def run(config: Config, clients: int = 200, seconds: float = 60.0, as_json: bool = False) -> dict[str, Any]:
    """Measure on the run's policy and reward model; prints and returns all figures. Raises UserError without them."""
    directory = RunDirectory.open(config)
    policy, reward_model = directory.require("policy", "clone"), directory.require("reward_model", "train")
    trees = list(islice(TreeStore(directory.require("trees", "trees")).trees(), _TREES))
    config = replace(config, gateway=local(config.gateway, _K))
    states = [
        tree.state(index).conversation() for tree in trees for index, node in enumerate(tree.nodes) if node.children
    ]
    Random(config.seed).shuffle(states)
    with redirect_stdout(sys.stderr), cluster(config), gateway(config, reward_model, policy):
        figures = asyncio.run(_figures(config, states, clients, seconds))
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures)
    return figures


async def _figures(config: Config, states: Sequence[Conversation], clients: int, seconds: float) -> dict[str, Any]:
    """All that is measured."""
    service = scorers_of(application(config), can_address(config.reward_engine))
    connections = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=config.gateway.deadline_s + 60)
    async with aiohttp.ClientSession(config.gateway.url, connector=connections, timeout=timeout) as session:
        asking = _Asking(config, states, session, service)
        with closing(service):
            one, one_through = await _in_turn(asking.direct, asking.through)
            five, five_through = await _in_turn(asking.direct_and_scored, asking.best)
        statuses, latencies = await asking.load(clients, seconds)
    answered = statuses.pop(200, 0)
    return {
        "one_ms": median(one),
        "one_gateway_ms": median(one_through),
        "one_added_ms": median(b - a for a, b in zip(one, one_through, strict=True)),
        "five_and_scoring_ms": median(five),
        "five_gateway_ms": median(five_through),
        "five_ratio": median(five_through) / median(five),
        "clients": clients,
        "answered": answered,
        "lost": sum(statuses.values()),
        "requests_per_s": answered / seconds,
        "load_p50_ms": median(latencies),
    }


class _Asking:
    """Asks for turns of `states`, each time in other words, so that no engine has read its beginning."""

    def __init__(
        self, config: Config, states: Sequence[Conversation], session: aiohttp.ClientSession, service: ScoringService
    ) -> None:
        self._model = storage.name(config.run)
        self._sampling = config.sampling
        self._states = states
        self._session = session
        self._service = service
        self._times_asked = count()

    async def direct(self, number: int) -> None:
        """One candidate of the policy's own server."""
        await self._asked(PREFIX, self._new(number), number)

    async def through(self, number: int) -> None:
        """One candidate of the gateway."""
        await self._asked("", self._new(number), number)

    async def direct_and_scored(self, number: int) -> None:
        """Several of the policy's own server, and then their values."""
        messages = self._new(number)
        _, answer = await self._asked(PREFIX, messages, number, n=_K)
        said = dict.fromkeys(choice["message"]["content"] for choice in answer["choices"])
        turns = [{"role": "assistant", "content": text} for text in said]
        await self._service.rank([Conversation(checked([*messages, turn])) for turn in turns])

    async def best(self, number: int) -> None:
        """The best of several by the gateway."""
        await self._asked("", self._new(number), number, k=_K)

    async def load(self, clients: int, seconds: float) -> tuple[Counter[int], list[Milliseconds]]:
        """What `clients` get of the gateway in so many seconds: how often which status, 0 for none, and when."""
        statuses: Counter[int] = Counter()
        latencies: list[Milliseconds] = []
        end = time.monotonic() + seconds

        async def client(number: int) -> None:
            while time.monotonic() < end:
                started = time.perf_counter()
                try:
                    status, _ = await self._asked("", self._state(number), number)
                except (aiohttp.ClientError, TimeoutError):
                    status = 0
                statuses[status] += 1
                latencies.append(1000 * (time.perf_counter() - started))
                number += clients

        await asyncio.gather(*map(client, range(clients)))
        return statuses, latencies

    def _state(self, number: int) -> Sequence[Message]:
        return self._states[number % len(self._states)].messages

    def _new(self, number: int) -> list[Message]:
        first, *others = self._state(number)
        return [dict(first) | {"content": f"{next(self._times_asked)} {text_of(first)}"}, *others]

    async def _asked(
        self, path: str, messages: Sequence[Message], seed: int, n: int = 1, k: int = 1
    ) -> tuple[int, Any]:
        body = {
            "model": self._model,
            "messages": messages,
            "temperature": self._sampling.temperature,
            "max_tokens": self._sampling.max_tokens,
            "seed": seed,
            "n": n,
        }
        headers = {"x-agentrm-k": str(k)}
        async with self._session.post(f"{path}/v1/chat/completions", json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


async def _in_turn(first: Any, second: Any) -> tuple[list[Milliseconds], list[Milliseconds]]:
    """The times of both ways for each turn, each first for every other one; the first turns do not count."""
    times: tuple[list[Milliseconds], list[Milliseconds]] = [], []
    warm = _TURNS // 10
    for number in range(warm + _TURNS):
        for way in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            await (first, second)[way](number)
            if number >= warm:
                times[way].append(1000 * (time.perf_counter() - started))
    return times


def _show(figures: dict[str, Any]) -> None:
    Console(highlight=False).print(
        f"one candidate: {figures['one_ms']:.1f} ms from the policy, {figures['one_gateway_ms']:.1f} ms through the "
        f"gateway, which adds {figures['one_added_ms']:.1f} ms at the median\n"
        f"the best of {_K}: {figures['five_gateway_ms']:.1f} ms, {figures['five_ratio']:.2f} times asking for {_K} and "
        f"scoring them ({figures['five_and_scoring_ms']:.1f} ms)\n"
        f"{figures['clients']} clients: {figures['answered']} requests answered, {figures['lost']} lost, "
        f"{figures['requests_per_s']:.0f} per second, median {figures['load_p50_ms']:.0f} ms"
    )


if __name__ == "__main__":
    main(run)

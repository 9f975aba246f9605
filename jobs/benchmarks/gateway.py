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
from actors.serving import application, can_address, scorers_of
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
        figures = asyncio.run(_Measurement(config, states).figures(clients, seconds))
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures)
    return figures


class _Measurement:
    """Asks for turns of `states`."""

    def __init__(self, config: Config, states: Sequence[Conversation]) -> None:
        self._config = config
        self._states = states
        self._numbers = count()

    def _new(self, number: int) -> list[Message]:
        """A state that no engine has read the beginning of."""
        first, *others = self._states[number % len(self._states)].messages
        return [dict(first) | {"content": f"{next(self._numbers)} {text_of(first)}"}, *others]

    async def figures(self, clients: int, seconds: float) -> dict[str, Any]:
        """All that is measured."""
        service = scorers_of(application(self._config), can_address(self._config.reward_engine))
        connections = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=self._config.gateway.deadline_s + 60)
        base = self._config.gateway.url
        async with aiohttp.ClientSession(base, connector=connections, timeout=timeout) as session:

            async def asked(path: str, messages: Sequence[Message], seed: int, **options: Any) -> tuple[int, Any]:
                sampling = self._config.sampling
                body = {
                    "model": storage.name(self._config.run),
                    "messages": messages,
                    "temperature": sampling.temperature,
                    "max_tokens": sampling.max_tokens,
                    "seed": seed,
                    "n": options.get("n", 1),
                }
                headers = {"x-agentrm-k": str(options.get("k", 1))}
                async with session.post(f"{path}/v1/chat/completions", json=body, headers=headers) as answer:
                    return answer.status, await answer.json(content_type=None)

            async def direct(number: int) -> None:
                await asked(PREFIX, self._new(number), number)

            async def through(number: int) -> None:
                await asked("", self._new(number), number)

            async def direct_and_scored(number: int) -> None:
                messages = self._new(number)
                _, answer = await asked(PREFIX, messages, number, n=_K)
                said = {choice["message"]["content"]: choice["message"] for choice in answer["choices"]}
                turns = [{"role": "assistant", "content": text} for text in said]
                await service.rank([Conversation(checked([*messages, turn])) for turn in turns])

            async def best(number: int) -> None:
                await asked("", self._new(number), number, k=_K)

            with closing(service):
                one, one_through = await _in_turn(direct, through)
                five, five_through = await _in_turn(direct_and_scored, best)

            statuses: Counter[int] = Counter()
            latencies: list[Milliseconds] = []

            async def client(number: int) -> None:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    started = time.perf_counter()
                    try:
                        status, _ = await asked("", self._states[number % len(self._states)].messages, number)
                    except (aiohttp.ClientError, TimeoutError):
                        status = 0
                    statuses[status] += 1
                    latencies.append(1000 * (time.perf_counter() - started))
                    number += clients

            await asyncio.gather(*map(client, range(clients)))
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

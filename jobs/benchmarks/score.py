"""How fast the scoring service is, side by side with the same reward model, states and machine.

    agentrm benchmark score --preset quickstart --trees 512 --json

A beam workload: 64 trees after 64 trees, all their states of one depth at a time, so that each batch holds the
histories of the one before. (a) the pooling engine called directly, with token ids; (b) the service over HTTP, with
conversations, batch by batch in turn; (c) transformers, in padded batches, for 20 s at most. Then one new state at a
time on (a) and (b) in turn, whose history has been scored; then many clients at once. Of an ensemble all three have
all members. The run directory must hold trees and an explicit reward model, the machine as many engines more as a
replica of the service has.

How many states go together and how many clients there are at most is chosen by a first measurement of the service, so
that no answer takes as long as it may on a slow machine; (a) and (b) end after some minutes. What has no answer all the
same is left out and counted as lost; a figure that nothing was measured for is null.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from statistics import median
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from actors.benchmark import DirectScoring, TransformersScoring
from actors.fleet import Fleet, Size
from actors.serving import deployed
from agentrm import storage
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config
from agentrm.core.errors import ContextOverflow
from agentrm.core.messages import Conversation, text_of
from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from agentrm.service.client import AsyncScoringClient, ServiceError
from jobs.benchmarks.trees import warmed
from jobs.runtime import cluster, main

_TRANSFORMERS_S = 20.0
_INCREMENTS = 300

# Trees whose states share batches, as those of the episodes that a search runs at once.
_TOGETHER = 64

# The batches, and then the new states, take this long at most.
_BATCHES_S, _INCREMENTS_S = 300.0, 120.0

# A batch, and the requests of all clients, take about this share of the service's deadline at most.
_OF_DEADLINE = 0.2

# Room for the word that makes a state new.
_ROOM = 16

Input = tuple[Conversation, list[int]]


def run(
    config: Config, trees: int = 512, clients: int = 200, seconds: float = 60.0, as_json: bool = False
) -> dict[str, Any]:
    """Measure on `trees` trees of the run, with `clients` at most; prints and returns all figures. Raises UserError
    without trees or a reward model.
    """
    directory = RunDirectory.open(config)
    model = directory.require("reward_model", "train")
    stored_trees = list(islice(TreeStore(directory.require("trees", "trees")).trees(), trees))
    renderer = Renderer.from_pretrained(storage.fetch(model), config.model.context)
    # New states must be new: some trees are kept for them.
    kept = max(1, len(stored_trees) // 16)
    fitting, pairs = _batches(stored_trees[:-kept], renderer), _increments(stored_trees[-kept:], renderer)
    # Ray reports what goes wrong in its actors on stdout, which belongs to the figures.
    with redirect_stdout(sys.stderr), cluster(config):
        engine = config.reward_engine
        options, one = actor_options(config, Role.rollouts, engine.gpus), Size.of(1, None, 1)
        with Fleet.start(TransformersScoring, one, options, model, engine) as actors:
            ids = [[state_ids for _, state_ids in batch] for batch in fitting]
            plain, plain_states = asyncio.run(_transformers(actors, ids))
        with (
            deployed(config, model, http=True),
            Fleet.start(DirectScoring, one, options, model, engine, config.model.context) as actors,
        ):
            measured, load = asyncio.run(_measure(config, actors, fitting, pairs, clients, seconds))
    states, direct, http = sum(measured.states), sum(measured.direct), sum(measured.http)
    rates = {"engine": _ratio(states, direct), "http": _ratio(states, http), "transformers": plain_states / plain}
    alone = {"engine_ms": _median_ms(measured.direct_increments), "p50_ms": _median_ms(measured.http_increments)}
    figures = {
        "http_of_engine": _ratio(direct, http),
        "speedup_transformers": _ratio(rates["http"], rates["transformers"]),
        "incremental_ratio": _ratio(alone["p50_ms"], alone["engine_ms"]),
        **load,
        "states": states,
        "states_lost": measured.lost,
        **{f"{name}_states_per_s": rate for name, rate in rates.items()},
        **alone,
    }
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures)
    return figures


def _batches(trees: Sequence[Tree], renderer: Renderer) -> list[list[Input]]:
    """For `_TOGETHER` trees at a time, all their states of one depth, for every depth in turn; without those that
    exceed the context.
    """
    levels: dict[tuple[int, int], list[Input]] = defaultdict(list)
    for number, tree in enumerate(trees):
        for index, node in enumerate(tree.nodes):
            conversation = tree.state(index).conversation()
            with suppress(ContextOverflow):
                levels[number // _TOGETHER, node.depth].append((conversation, renderer.ids(conversation)))
    return [levels[key] for key in sorted(levels)]


def _increments(trees: Sequence[Tree], renderer: Renderer) -> list[tuple[Input, Input]]:
    """States with their successors, where these do not exceed the context."""
    pairs = []
    for tree in trees:
        for index, node in enumerate(tree.nodes[1:], 1):
            first, second = (tree.state(number).conversation() for number in (node.parent, index))
            with suppress(ContextOverflow):
                pairs.append(((first, renderer.ids(first)), (second, renderer.ids(second))))
    return pairs[:_INCREMENTS]


async def _transformers(actors: Fleet, batches: Sequence[Sequence[list[int]]]) -> tuple[float, int]:
    (actor,) = actors.handles
    return await actor.run.remote(batches, _TRANSFORMERS_S)


@dataclass(slots=True)
class _Measured:
    """Seconds of each batch of `states` and of each new state, by the engine called directly and over HTTP; neither of
    those that are `lost` over HTTP.
    """

    states: list[int] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)
    direct_increments: list[float] = field(default_factory=list)
    http_increments: list[float] = field(default_factory=list)
    lost: int = 0


async def _measure(
    config: Config,
    actors: Fleet,
    batches: Sequence[Sequence[Input]],
    pairs: Sequence[tuple[Input, Input]],
    clients: int,
    seconds: float,
) -> tuple[_Measured, dict[str, float | None]]:
    """Side by side and under load, in amounts that this machine can take."""
    await warmed(actors)
    states = [state for batch in batches for state, ids in batch if len(ids) <= config.model.context - _ROOM]
    Random(config.seed).shuffle(states)
    async with _client(config) as client:
        rate = await rate_of(client, states, config)
    most = max(1, int(rate * config.serve.deadline_s * _OF_DEADLINE))
    cut = [batch[start : start + most] for batch in batches for start in range(0, len(batch), most)]
    measured = await _side_by_side(config, actors, cut, pairs)
    every = [state for batch in batches for state, _ in batch]
    return measured, await under_load(config, every, min(clients, most), seconds)


async def rate_of(client: AsyncScoringClient, states: Sequence[Conversation], config: Config) -> float:
    """How many new states the service scores per second, by more of them at a time until they take a second; its first
    requests do not count, for engines compile kernels then.
    """
    size = config.serve.max_conversations
    numbers, count = itertools.count(), 1

    def new(state: Conversation) -> Conversation:
        first, *others = state.messages
        text = f"{next(numbers)} warm {text_of(first)}"
        return Conversation([first | {"content": text}, *others], state.tools)

    async def scored() -> float:
        started = time.perf_counter()
        await client.score([new(states[number % len(states)]) for number in range(count)])
        return time.perf_counter() - started

    try:
        await scored()
        while (taken := await scored()) < 1.0 and count < size:
            count = min(2 * count, size)
    except ServiceError as error:
        print(f"the service is slow: {error}", file=sys.stderr)
        taken = config.serve.deadline_s
    return count / taken


async def _side_by_side(
    config: Config, actors: Fleet, batches: Sequence[Sequence[Input]], pairs: Sequence[tuple[Input, Input]]
) -> _Measured:
    """Each batch, then each new state, by both ways in turn: a noisy machine is then as noisy for both."""
    measured, size = _Measured(), config.serve.max_conversations
    (engine,) = actors.handles
    async with _client(config) as client:

        async def over_http(conversations: Sequence[Conversation]) -> float | None:
            started = time.perf_counter()
            parts = [conversations[start : start + size] for start in range(0, len(conversations), size)]
            try:
                await asyncio.gather(*(client.score(part) for part in parts))
            except ServiceError as error:
                print(f"{len(conversations)} states are lost: {error}", file=sys.stderr)
                measured.lost += len(conversations)
                return None
            return time.perf_counter() - started

        end = time.monotonic() + _BATCHES_S
        for batch in batches:
            conversations, ids = zip(*batch, strict=True)
            direct = await engine.run.remote(ids)
            if (http := await over_http(conversations)) is not None:
                measured.states.append(len(batch))
                measured.direct.append(direct)
                measured.http.append(http)
            if time.monotonic() > end:
                break
        end = time.monotonic() + _INCREMENTS_S
        for (first, first_ids), (second, second_ids) in pairs:
            await engine.run.remote([first_ids])
            direct = await engine.run.remote([second_ids])
            await over_http([first])
            if (http := await over_http([second])) is not None:
                measured.direct_increments.append(direct)
                measured.http_increments.append(http)
            if time.monotonic() > end:
                break
    return measured


def _client(config: Config) -> AsyncScoringClient:
    url = f"http://{config.serve.host}:{config.serve.port}"
    return AsyncScoringClient(url, config.serve.api_key, timeout_s=config.serve.deadline_s + 10)


async def under_load(
    config: Config, states: Sequence[Conversation], clients: int, seconds: float
) -> dict[str, float | None]:
    """Each client scores one state after the other; `lost`: requests that were not answered, retries included."""
    end = time.monotonic() + seconds
    latencies: list[float] = []
    lost = 0

    async def one(client: AsyncScoringClient, number: int) -> None:
        nonlocal lost
        while time.monotonic() < end:
            started = time.perf_counter()
            try:
                await client.score([states[number % len(states)]])
                latencies.append(time.perf_counter() - started)
            except ServiceError:
                lost += 1
            number += clients

    async with _client(config) as client:
        tasks = [asyncio.create_task(one(client, number)) for number in range(clients)]
        # Buffers and caches are full after a while; what grows from then on is a leak.
        await asyncio.sleep(seconds / 3)
        before = _memory()
        await asyncio.gather(*tasks)
    return {
        "clients": clients,
        "answered": len(latencies),
        "lost": lost,
        "requests_per_s": len(latencies) / seconds,
        "load_p50_ms": _median_ms(latencies),
        "memory_mb_before": before,
        "memory_mb_after": _memory(),
    }


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _median_ms(seconds: Sequence[float]) -> float | None:
    return 1000 * median(seconds) if seconds else None


def _memory() -> float:
    """What the processes of this job's own cluster hold, in MB; 0 on another cluster."""
    return sum(process.memory_info().rss for process in psutil.Process().children(recursive=True)) / 2**20


def _show(figures: dict[str, Any]) -> None:
    def told(key: str, form: str) -> str:
        return "?" if figures[key] is None else format(figures[key], form)

    table = Table("", "states/s", "one new state, ms", box=box.SIMPLE_HEAD)
    for name, key in (("engine", "engine_ms"), ("http", "p50_ms"), ("transformers", "")):
        table.add_row(name, told(f"{name}_states_per_s", ",.0f"), told(key, ".1f") if key else "")
    console = Console(highlight=False)
    console.print(table)
    lost = f", {figures['states_lost']} states lost" if figures["states_lost"] else ""
    console.print(
        f"HTTP reaches {told('http_of_engine', '.2f')} of the engine, "
        f"{told('speedup_transformers', '.1f')} times transformers{lost}\n"
        f"{figures['clients']} clients: {figures['answered']} requests answered, {figures['lost']} lost, "
        f"{figures['requests_per_s']:.0f} per second, median {told('load_p50_ms', '.0f')} ms; "
        f"memory {figures['memory_mb_before']:.0f} MB, then {figures['memory_mb_after']:.0f} MB"
    )


if __name__ == "__main__":
    main(run)

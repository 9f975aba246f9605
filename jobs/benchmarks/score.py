"""How fast the scoring service is, side by side with the same reward model, states and machine.

    agentrm benchmark score --preset quickstart --trees 512 --json

A beam workload: 64 trees after 64 trees, all their states of one depth at a time, so that each batch holds the
histories of the one before. (a) the pooling engine called directly, with token ids; (b) the service over HTTP, with
conversations, batch by batch in turn; (c) transformers, in padded batches, for 20 s at most. Then one new state at a
time on (a) and (b) in turn, whose history has been scored; then many clients at once. The run directory must hold trees
and an explicit reward model, the machine one engine more than the service has.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import islice
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
from agentrm.core.messages import Conversation
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

Input = tuple[Conversation, list[int]]


def run(
    config: Config, trees: int = 512, clients: int = 200, seconds: float = 60.0, as_json: bool = False
) -> dict[str, Any]:
    """Measure on `trees` trees of the run; prints and returns all figures. Raises UserError without trees or a reward
    model.
    """
    directory = RunDirectory.open(config)
    model = directory.require("reward_model", "train")
    found = list(islice(TreeStore(directory.require("trees", "trees")).trees(), trees))
    renderer = Renderer.from_pretrained(storage.fetch(model), config.model.context)
    # New states must be new: some trees are kept for them.
    kept = max(1, len(found) // 16)
    fitting, pairs = _batches(found[:-kept], renderer), _increments(found[-kept:], renderer)
    states = sum(map(len, fitting))
    # Ray reports what goes wrong in its actors on stdout, which belongs to the figures.
    with redirect_stdout(sys.stderr), cluster(config):
        engine = config.reward_engine
        options, one = actor_options(config, Role.rollouts, engine.gpus), Size.of(1, None, 1)
        with Fleet.start(TransformersScoring, one, options, model, engine) as actors:
            ids = [[each for _, each in batch] for batch in fitting]
            plain, plain_states = asyncio.run(_transformers(actors, ids))
        with deployed(config, model, http=True):
            with Fleet.start(DirectScoring, one, options, model, engine, config.model.context) as actors:
                measured = asyncio.run(_side_by_side(config, actors, fitting, pairs))
            load = asyncio.run(_load(config, [state for batch in fitting for state, _ in batch], clients, seconds))
    direct, http = sum(measured.direct), sum(measured.http)
    direct_increment, http_increment = median(measured.direct_increments), median(measured.http_increments)
    figures = {
        "http_of_engine": direct / http,
        "speedup_transformers": (states / http) / (plain_states / plain),
        "incremental_ratio": http_increment / direct_increment,
        **load,
        "states": states,
        "engine_states_per_s": states / direct,
        "http_states_per_s": states / http,
        "transformers_states_per_s": plain_states / plain,
        "engine_ms": 1000 * direct_increment,
        "p50_ms": 1000 * http_increment,
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


@dataclass(frozen=True, slots=True)
class _Measured:
    """Seconds of each batch and of each new state, by the engine called directly and over HTTP."""

    direct: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)
    direct_increments: list[float] = field(default_factory=list)
    http_increments: list[float] = field(default_factory=list)


async def _side_by_side(
    config: Config, actors: Fleet, batches: Sequence[Sequence[Input]], pairs: Sequence[tuple[Input, Input]]
) -> _Measured:
    """Each batch, then each new state, by both ways in turn: a noisy machine is then as noisy for both."""
    measured, size = _Measured(), config.serve.max_conversations
    (engine,) = actors.handles
    await warmed(actors)
    async with _client(config) as client:
        await client.score([[{"role": "user", "content": f"{number} warm"}] for number in range(min(size, 16))])
        for batch in batches:
            conversations, ids = zip(*batch, strict=True)
            measured.direct.append(await engine.run.remote(ids))
            started = time.perf_counter()
            parts = [conversations[start : start + size] for start in range(0, len(batch), size)]
            await asyncio.gather(*(client.score(part) for part in parts))
            measured.http.append(time.perf_counter() - started)
        for (first, first_ids), (second, second_ids) in pairs:
            await engine.run.remote([first_ids])
            measured.direct_increments.append(await engine.run.remote([second_ids]))
            await client.score([first])
            started = time.perf_counter()
            await client.score([second])
            measured.http_increments.append(time.perf_counter() - started)
    return measured


def _client(config: Config) -> AsyncScoringClient:
    url = f"http://{config.serve.host}:{config.serve.port}"
    return AsyncScoringClient(url, config.serve.api_key, timeout_s=config.serve.deadline_s + 10)


async def _load(config: Config, states: Sequence[Conversation], clients: int, seconds: float) -> dict[str, float]:
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
        "load_p50_ms": 1000 * median(latencies),
        "memory_mb_before": before,
        "memory_mb_after": _memory(),
    }


def _memory() -> float:
    """What the processes of this job's own cluster hold, in MB; 0 on another cluster."""
    return sum(each.memory_info().rss for each in psutil.Process().children(recursive=True)) / 2**20


def _show(figures: dict[str, Any]) -> None:
    table = Table("", "states/s", "one new state, ms", box=box.SIMPLE_HEAD)
    for name, key in (("engine", "engine_ms"), ("http", "p50_ms"), ("transformers", "")):
        increment = figures.get(key)
        table.add_row(name, f"{figures[f'{name}_states_per_s']:,.0f}", "" if increment is None else f"{increment:.1f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"HTTP reaches {figures['http_of_engine']:.2f} of the engine, "
        f"{figures['speedup_transformers']:.1f} times transformers\n"
        f"{figures['clients']} clients: {figures['answered']} requests answered, {figures['lost']} lost, "
        f"{figures['requests_per_s']:.0f} per second, median {figures['load_p50_ms']:.0f} ms; "
        f"memory {figures['memory_mb_before']:.0f} MB, then {figures['memory_mb_after']:.0f} MB"
    )


if __name__ == "__main__":
    main(run)

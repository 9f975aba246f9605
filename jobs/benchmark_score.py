"""How fast the scoring service is, side by side with the same reward model, states and machine.

    agentrm benchmark score --preset quickstart --trees 512 --json

A beam workload: 64 trees after 64 trees, all their states of one depth at a time, so that each batch holds the
histories of the one before. (a) the pooling engine called directly, with token ids; (b) the service over HTTP, with
conversations; (c) transformers, in padded batches, for 20 s at most. Then one new state at a time on (a) and (b), whose
history has been scored; then many clients at once. The run directory must hold trees and an explicit reward model.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
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
from agentrm.client import AsyncScoringClient, ServiceError
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config
from agentrm.data.trees import TreeStore
from agentrm.errors import ContextOverflow
from agentrm.models.rendering import Renderer
from agentrm.models.state import Message
from agentrm.run import RunDirectory
from agentrm.search.tree import Tree
from jobs.benchmark_trees import warmed
from jobs.runtime import cluster, main

_TRANSFORMERS_S = 20.0
_INCREMENTS = 300

# Trees whose states share batches, as those of the episodes that a search runs at once.
_TOGETHER = 64

Conversation = list[Message]


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
    batches = [[conversation for conversation, _ in batch] for batch in fitting]
    ids = [[each for _, each in batch] for batch in fitting]
    states = sum(map(len, batches))
    # Ray reports what goes wrong in its actors on stdout, which belongs to the figures.
    with redirect_stdout(sys.stderr), cluster(config):
        engine, context = config.reward_engine, config.model.context
        options, one = actor_options(config, Role.rollouts, engine.gpus), Size.of(1, None, 1)
        with Fleet.start(DirectScoring, one, options, model, engine, context) as actors:
            (actor,) = actors.handles
            asyncio.run(warmed(actors))
            direct = asyncio.run(_await(actor.run.remote(ids)))
            id_pairs = [(renderer.ids(first), renderer.ids(second)) for first, second in pairs]
            direct_increments = asyncio.run(_await(actor.increments.remote(id_pairs)))
        with Fleet.start(TransformersScoring, one, options, model, engine) as actors:
            (actor,) = actors.handles
            plain, plain_states = asyncio.run(_await(actor.run.remote(ids, _TRANSFORMERS_S)))
        with deployed(config, model, http=True):
            http, http_increments, load = asyncio.run(_over_http(config, batches, pairs, clients, seconds))
    figures = {
        "http_of_engine": direct / http,
        "speedup_transformers": (states / http) / (plain_states / plain),
        "incremental_ratio": median(http_increments) / median(direct_increments),
        **load,
        "states": states,
        "engine_states_per_s": states / direct,
        "http_states_per_s": states / http,
        "transformers_states_per_s": plain_states / plain,
        "engine_ms": 1000 * median(direct_increments),
        "p50_ms": 1000 * median(http_increments),
    }
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures)
    return figures


def _batches(trees: Sequence[Tree], renderer: Renderer) -> list[list[tuple[Conversation, list[int]]]]:
    """For `_TOGETHER` trees at a time, all their states of one depth, for every depth in turn, with their ids; without
    those that exceed the context.
    """
    levels: dict[tuple[int, int], list[tuple[Conversation, list[int]]]] = defaultdict(list)
    for number, tree in enumerate(trees):
        for index, node in enumerate(tree.nodes):
            conversation = tree.state(index).messages()
            with suppress(ContextOverflow):
                levels[number // _TOGETHER, node.depth].append((conversation, renderer.ids(conversation)))
    return [levels[key] for key in sorted(levels)]


def _increments(trees: Sequence[Tree], renderer: Renderer) -> list[tuple[Conversation, Conversation]]:
    """States with their successors, where these do not exceed the context."""
    pairs = []
    for tree in trees:
        for index, node in enumerate(tree.nodes[1:], 1):
            conversation = tree.state(index).messages()
            with suppress(ContextOverflow):
                renderer.ids(conversation)
                pairs.append((tree.state(node.parent).messages(), conversation))
    return pairs[:_INCREMENTS]


async def _await(reference: Any) -> Any:
    return await reference


async def _over_http(
    config: Config,
    batches: Sequence[Sequence[Conversation]],
    pairs: Sequence[tuple[Conversation, Conversation]],
    clients: int,
    seconds: float,
) -> tuple[float, list[float], dict[str, float]]:
    """Seconds for all batches, seconds for each new state, and what became of the load."""
    url, size = f"http://{config.serve.host}:{config.serve.port}", config.serve.max_conversations
    timeout_s = config.serve.deadline_s + 10
    async with AsyncScoringClient(url, config.serve.api_key, timeout_s=timeout_s) as client:
        warming = [[{"role": "user", "content": f"{number} warm"}] for number in range(16)]
        await client.score(warming)
        started = time.perf_counter()
        for batch in batches:
            parts = [batch[start : start + size] for start in range(0, len(batch), size)]
            await asyncio.gather(*(client.score(part) for part in parts))
        http = time.perf_counter() - started
        increments = []
        for first, second in pairs:
            await client.score([first])
            started = time.perf_counter()
            await client.score([second])
            increments.append(time.perf_counter() - started)
        states = [each for batch in batches for each in batch]
        return http, increments, await _load(client, states, clients, seconds)


async def _load(
    client: AsyncScoringClient, states: Sequence[Conversation], clients: int, seconds: float
) -> dict[str, float]:
    """Each client scores one state after the other; `lost`: requests that were not answered, retries included."""
    end = time.monotonic() + seconds
    latencies: list[float] = []
    lost = 0

    async def one(number: int) -> None:
        nonlocal lost
        while time.monotonic() < end:
            started = time.perf_counter()
            try:
                await client.score([states[number % len(states)]])
                latencies.append(time.perf_counter() - started)
            except ServiceError:
                lost += 1
            number += clients

    tasks = [asyncio.create_task(one(number)) for number in range(clients)]
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

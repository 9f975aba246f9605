"""Search trees: MCTS with the policy in the training tasks, into an Arrow dataset of one row per node.

    python -m jobs.trees --preset quickstart trees.iterations=8

Trees are committed one by one; a run that was cut goes on with those that are missing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import Any

from ray.actor import ActorHandle

from actors.builder import Builder
from actors.environments import environment_counters, start_environments
from actors.fleet import Fleet
from actors.policy import start_policy
from agentrm.config import tasks
from agentrm.config.schema import Config
from agentrm.data.trees import TreeStore
from agentrm.environments.base import Task
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main, progress


def run(config: Config) -> dict[str, Any]:
    """Grow every tree that is not there yet; returns the counts of this call."""
    directory = RunDirectory.open(config)
    policy = directory.require("policy", "clone")
    store = TreeStore(directory.path("trees"))
    finished = store.finished()
    todo = [task for task in tasks(config.tasks.trees, config.tasks.seed) if task.id not in finished]
    if not todo:
        return directory.metrics("trees")
    started = time.monotonic()
    with cluster(config), start_policy(config, policy) as replicas, start_environments(config) as hosts:
        arguments = (config, str(policy), str(store.root), replicas, hosts)
        with Fleet.start(Builder, config.trees.builders, {"num_cpus": 1}, *arguments) as builders:
            counts = asyncio.run(_build(config, builders, hosts, todo))
    counts["seconds"] = round(time.monotonic() - started, 1)
    counts["trees"] = len(store.finished())
    directory.write_metrics("trees", counts)
    return counts


async def _build(config: Config, builders: Fleet, hosts: Fleet, todo: list[Task]) -> dict[str, Any]:
    """Keep every builder at its concurrency until no task is left; returns the summed counts."""
    total: Counter[str] = Counter()
    queue = list(reversed(todo))

    async def feed(builder: ActorHandle) -> None:
        while queue:
            counts = await builder.build.remote(queue.pop())
            if "failed" in counts:
                total["failed"] += 1
                print(f"a tree could not start and is left for the next run: {counts['failed']}", file=sys.stderr)
            total.update({name: value for name, value in counts.items() if not isinstance(value, str)})
            bar.advance(1, nodes=int(total["nodes"]), rollouts=int(total["rollouts"]))

    with progress("trees", len(todo)) as bar:
        lanes = config.trees.concurrency
        await asyncio.gather(*(feed(builder) for builder in builders.handles for _ in range(lanes)))
    grown = max(len(todo) - total["failed"], 1)
    summed: dict[str, float] = dict(total)
    summed["root_value"] = summed.get("root_value", 0.0) / grown
    return summed | {f"environment_{name}": count for name, count in (await environment_counters(hosts)).items()}


if __name__ == "__main__":
    main(run)

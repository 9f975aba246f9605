"""Search trees: MCTS with the policy in the training tasks, into an Arrow dataset of one row per node.

    python -m jobs.trees --preset quickstart trees.iterations=8

Trees are committed one by one; a run that was cut goes on with those that are missing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from actors.builder import Builders, Counts, start_builders
from actors.environments import environment_counters, start_environments
from actors.fleet import Fleet
from actors.policy import start_policy
from actors.scaling import scaled
from actors.serving import ServedRewardModel, deployed
from agentrm import storage
from agentrm.config import measuring, tasks
from agentrm.config.schema import Config, Search
from agentrm.data.trees import TreeStore
from agentrm.environments.base import Task
from agentrm.errors import AgentRMError
from agentrm.models.base import RewardModel
from agentrm.run import RunDirectory
from agentrm.search.tree import tree_id
from jobs.progress import Bar
from jobs.runtime import cluster, main, progress

Work = tuple[Task, Sequence[int]]
Build = Callable[[Task, Sequence[int]], Awaitable[Mapping[str, Any]]]


def run(config: Config) -> dict[str, Any]:
    """Grow every tree that is not there yet; returns the counts of this call. Raises ModelUnavailable, and what was the
    cause when no tree could be grown at all.
    """
    directory = RunDirectory.open(config)
    policy = directory.require("policy", "clone")
    store = TreeStore(directory.at("trees"))
    todo = missing(tasks(config.tasks.trees, config.tasks.seed), config.trees.trees_per_task, store.finished())
    todo = largest_first(todo, config.trees)
    if not todo:
        return directory.metrics("trees")
    started = time.monotonic()
    with (
        cluster(config),
        _bootstrap(config) as reward_model,
        start_policy(config, policy) as replicas,
        start_environments(config) as hosts,
        start_builders(config, policy, store.root, replicas, hosts, reward_model) as builders,
    ):
        counts = asyncio.run(_build(config, builders, replicas, hosts, todo, store))
    counts["seconds"] = round(time.monotonic() - started, 1)
    counts["trees"] = len(store.finished())
    directory.write_metrics("trees", counts)
    return counts


def missing(found: Iterable[Task], trees_per_task: int, finished: set[str]) -> list[Work]:
    """The tasks that lack trees, with the numbers of those trees."""
    numbers = ((task, [n for n in range(trees_per_task) if tree_id(task, n) not in finished]) for task in found)
    return [(task, lacking) for task, lacking in numbers if lacking]


def largest_first(todo: Iterable[Work], search: Search) -> list[Work]:
    """The tasks with the most rollouts first, else in their order: long trees that begin last would leave the engine
    with little to do at the end.
    """
    return sorted(todo, key=lambda work: len(work[1]) * rollouts(work[0], search), reverse=True)


def rollouts(task: Task, search: Search) -> int:
    """How many a tree of a task has, unless another budget ends it."""
    own = search if task.split == "train" else measuring(search)
    return own.iterations * own.rollouts


async def spread(todo: Iterable[Work], build: Build, lanes: int, bar: Bar) -> Counter[str]:
    """Keep `build` at `lanes` tasks until none is left; returns the summed counts.

    Nothing of a task is held once it is done.
    """
    total: Counter[str] = Counter()
    queue = iter(todo)

    async def feed() -> None:
        for task, numbers in queue:
            counts = await build(task, numbers)
            if "failed" in counts:
                total["failed"] += 1
                print(f"a tree could not be grown and is left for the next run: {counts['failed']}", file=sys.stderr)
            total.update({name: count for name, count in counts.items() if name != "failed"})
            bar.advance(len(numbers), nodes=int(total["nodes"]), rollouts=int(total["rollouts"]))

    await asyncio.gather(*(feed() for _ in range(lanes)))
    return total


async def _build(
    config: Config, fleet: Fleet, replicas: Fleet, hosts: Fleet, todo: Sequence[Work], store: TreeStore
) -> dict[str, Any]:
    """The counts of this call. Raises why the last tree could not be grown when there is none at all."""
    lanes = config.trees.concurrency
    builders = Builders(fleet, lanes)
    failure: AgentRMError | None = None

    async def build(task: Task, numbers: Sequence[int]) -> Counts:
        nonlocal failure
        counts = await builders.build(task, numbers)
        failure = counts.get("failed", failure)
        return counts

    most = max(config.trees.builders, config.trees.max_builders or 0)
    works = [rollouts(task, config.trees) for task, numbers in todo for _ in numbers]
    with progress("trees", len(works), works, lanes * config.trees.builders) as bar:
        async with scaled({fleet: builders.load, replicas: None, hosts: None}, lambda: builders.tell(replicas, hosts)):
            total = await spread(todo, build, lanes * most, bar)
    if failure is not None and not store.finished():
        raise failure
    summed: dict[str, float] = dict(total)
    summed["root_value"] = summed.get("root_value", 0.0) / max(total["trees"], 1)
    return summed | {f"environment_{name}": count for name, count in (await environment_counters(hosts)).items()}


@contextmanager
def _bootstrap(config: Config) -> Iterator[RewardModel | None]:
    """The reward model that values what cut rollouts leave out, where there is one."""
    if not config.trees.bootstrap:
        yield None
        return
    with deployed(config, storage.absolute(config.trees.bootstrap), http=False) as scorers:
        yield ServedRewardModel(scorers)


if __name__ == "__main__":
    main(run)

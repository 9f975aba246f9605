"""Search trees: MCTS with the policy in the training tasks, into an Arrow dataset of one row per node.

    python -m jobs.trees --preset quickstart trees.iterations=8

Trees are committed one by one; a run that was cut goes on with those that are missing. A task that its environment
fails is tried again once the others are done, and counted as failed after some attempts.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from actors.builder import Builders, start_builders
from actors.environments import environment_counters, start_environments
from actors.fleet import Fleet
from actors.policy import start_policy
from actors.scaling import scaled
from actors.serving import ServedRewardModel, deployed
from agentrm import storage
from agentrm.config.schema import Config, Trees
from agentrm.config.tasks import tasks
from agentrm.core.errors import AgentRMError, EnvironmentFailure, UserError
from agentrm.core.protocols import RewardModel
from agentrm.core.task import Task
from agentrm.core.tree import tree_id
from agentrm.data.trees import TreeStore
from agentrm.failures import Failures
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main, progress
from jobs.terminal.progress import Bar

Work = tuple[Task, Sequence[int]]
Build = Callable[[Task, Sequence[int]], Awaitable[Mapping[str, Any]]]


def run(config: Config) -> dict[str, Any]:
    """Grow every tree that is not there yet; returns the counts of this call. Raises ModelUnavailable, and what was the
    cause when no tree could be grown at all.
    """
    directory = RunDirectory.open(config)
    policy = directory.require("policy", "clone")
    directory.record_data()
    store = TreeStore(directory.at("trees"))
    failures = Failures(directory.work("failures/trees"))
    found = [task for task in tasks(config.tasks.trees, config.tasks.seed) if task.id not in failures.given_up]
    todo = largest_first(missing(found, config.trees.trees_per_task, store.finished()), config.trees)
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
        counts = asyncio.run(_build(config, builders, replicas, hosts, todo, store, failures))
    if failures.given_up:
        print(failures.told(), file=sys.stderr)
    finished = store.finished()
    kept = [task for task in found if task.id not in failures.given_up]
    counts["left"] = sum(len(numbers) for _, numbers in missing(kept, config.trees.trees_per_task, finished))
    if counts["left"]:
        print(f"{counts['left']} trees are left for the next run", file=sys.stderr)
    counts["failed"] = len(failures.given_up)
    counts["seconds"] = round(time.monotonic() - started, 1)
    counts["trees"] = len(finished)
    directory.write_metrics("trees", counts)
    return counts


def missing(found: Iterable[Task], trees_per_task: int, finished: set[str]) -> list[Work]:
    """The tasks that lack trees, with the numbers of those trees."""
    numbers = ((task, [n for n in range(trees_per_task) if tree_id(task, n) not in finished]) for task in found)
    return [(task, lacking) for task, lacking in numbers if lacking]


def largest_first(todo: Iterable[Work], search: Trees) -> list[Work]:
    """The tasks with the most rollouts first, else in their order: long trees that begin last would leave the engine
    with little to do at the end.
    """
    return sorted(todo, key=lambda work: len(work[1]) * rollouts(work[0], search), reverse=True)


def rollouts(task: Task, search: Trees) -> int:
    """How many a tree of a task has, unless another budget ends it."""
    own = search if task.split == "train" else search.measuring
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
                print(f"a tree could not be grown: {counts['failed']}", file=sys.stderr)
            total.update({name: count for name, count in counts.items() if name != "failed"})
            value = total["root_value"] / max(total["trees"], 1)
            bar.advance(len(numbers), nodes=int(total["nodes"]), rollouts=int(total["rollouts"]), mean_value=value)

    await asyncio.gather(*(feed() for _ in range(lanes)))
    return total


async def _build(
    config: Config,
    fleet: Fleet,
    replicas: Fleet,
    hosts: Fleet,
    todo: Sequence[Work],
    store: TreeStore,
    failures: Failures,
) -> dict[str, Any]:
    lanes = config.trees.concurrency
    builders = Builders(fleet, lanes)
    most = max(config.trees.builders, config.trees.max_builders or 0)

    def shown(todo: Iterable[Work]) -> AbstractContextManager[Bar]:
        works = [rollouts(task, config.trees) for task, numbers in todo for _ in numbers]
        return progress("trees", len(works), works, lanes * config.trees.builders)

    async with scaled({fleet: builders.load, replicas: None, hosts: None}, lambda: builders.tell(replicas, hosts)):
        total = await attempts(todo, builders.build, lanes * most, store, failures, shown)
    summed: dict[str, float] = dict(total)
    summed["root_value"] = summed.get("root_value", 0.0) / max(total["trees"], 1)
    return summed | {f"environment_{name}": count for name, count in (await environment_counters(hosts)).items()}


async def attempts(
    todo: Sequence[Work],
    build: Build,
    lanes: int,
    store: TreeStore,
    failures: Failures,
    shown: Callable[[Iterable[Work]], AbstractContextManager[Bar]],
) -> Counter[str]:
    """`spread` until every task has its trees, is given up, or is left for the next run because of a model; returns the
    summed counts. `shown` gives the bar of a round. Raises what was the cause where there is no tree at all: then no
    failure is counted; raises UserError in the end for tasks that no machine may play, such as those of data that one
    lacks.
    """
    failed: dict[Task, AgentRMError] = {}
    refused: list[UserError] = []
    total: Counter[str] = Counter()

    async def one(task: Task, numbers: Sequence[int]) -> Mapping[str, Any]:
        counts = await build(task, numbers)
        if "failed" in counts:
            failed[task] = counts["failed"]
        return counts

    while todo:
        failed.clear()
        with shown(todo) as bar:
            total.update(await spread(todo, one, lanes, bar))
        finished = store.finished()
        broken = {task: error for task, error in failed.items() if isinstance(error, EnvironmentFailure)}
        if failed and not finished:
            others = [error for task, error in failed.items() if task not in broken]
            told = f"all {len(failed)} tasks failed in their environment: {next(iter(failed.values()))}"
            raise others[0] if others else EnvironmentFailure(told)
        for task, error in broken.items():
            failures.record(task, str(error))
        refused += [error for error in failed.values() if isinstance(error, UserError)]
        again = [(task, numbers) for task, numbers in todo if task in broken and task.id not in failures.given_up]
        todo = [(task, [n for n in numbers if tree_id(task, n) not in finished]) for task, numbers in again]
    if refused:
        raise refused[0]
    return total


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

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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from actors.builder import start_builders
from actors.environments import environment_counters, start_environments
from actors.fleet import Fleet
from actors.policy import start_policy
from actors.scaling import scaled
from actors.serving import ServedRewardModel, deployed
from actors.workers import Workers
from agentrm import storage
from agentrm.config.schema import Config, Trees
from agentrm.config.tasks import tasks
from agentrm.core.protocols import RewardModel
from agentrm.core.task import Task
from agentrm.data.trees import TreeStore
from agentrm.failures import Failures
from agentrm.run import RunDirectory
from jobs.attempts import Advance, attempts
from jobs.runtime import cluster, main, progress

Work = tuple[Task, Sequence[int]]
"""A task, and the numbers of its trees."""


def run(config: Config) -> dict[str, Any]:
    """Grow every tree that is not there yet; returns the counts of this call. Raises ModelUnavailable, and what was the
    cause when no tree could be grown at all.
    """
    directory = RunDirectory.open(config)
    policy = directory.require("policy", "clone")
    directory.record_data()
    store = TreeStore(directory.at("trees"))
    failures = Failures(directory.work("failures/trees"))
    numbers = range(config.trees.trees_per_task)
    asked_for: list[Work] = [(task, numbers) for task in tasks(config.tasks.trees, config.tasks.seed)]

    def missing() -> list[Work]:
        return store.missing((task, numbers) for task, numbers in asked_for if task.id not in failures.given_up)

    todo = largest_first(missing(), config.trees)
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
    counts["left"] = sum(len(numbers) for _, numbers in missing())
    if counts["left"]:
        print(f"{counts['left']} trees are left for the next run", file=sys.stderr)
    counts["failed"] = len(failures.given_up)
    counts["seconds"] = round(time.monotonic() - started, 1)
    counts["trees"] = len(store.finished())
    directory.write_metrics("trees", counts)
    return counts


def largest_first(todo: Iterable[Work], search: Trees) -> list[Work]:
    """The tasks with the most rollouts first, else in their order: long trees that begin last would leave the engine
    with little to do at the end.
    """
    return sorted(todo, key=lambda work: len(work[1]) * rollouts(work[0], search), reverse=True)


def rollouts(task: Task, search: Trees) -> int:
    """How many a tree of a task has, unless another budget ends it."""
    own = search if task.split == "train" else search.measuring
    return own.iterations * own.rollouts


@contextmanager
def growing(name: str, todo: Sequence[Work], search: Trees, lanes: int) -> Iterator[Advance[Sequence[int]]]:
    """Show how trees grow, `lanes` tasks at a time."""
    works = [rollouts(task, search) for task, numbers in todo for _ in numbers]
    with progress(name, len(works), works, lanes) as bar:

        def advance(numbers: Sequence[int], total: Counter[str]) -> None:
            value = total["root_value"] / max(total["trees"], 1)
            bar.advance(len(numbers), nodes=int(total["nodes"]), rollouts=int(total["rollouts"]), mean_value=value)

        yield advance


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
    builders = Workers(fleet, lanes)
    most = max(config.trees.builders, config.trees.max_builders or 0)

    def shown(todo: Sequence[Work]) -> AbstractContextManager[Advance[Sequence[int]]]:
        return growing("trees", todo, config.trees, lanes * config.trees.builders)

    async with scaled({fleet: builders.load, replicas: None, hosts: None}, lambda: builders.tell(replicas, hosts)):
        total, _ = await attempts(todo, builders.work, lanes * most, store, failures, shown)
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

"""Tree builders: workers that grow trees and commit them straight to storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import ray

from actors.environments import RemoteGrader, RemoteSessions
from actors.fleet import Fleet, Size
from actors.metrics import TreeMetrics
from actors.policy import connect_policy
from actors.workers import Worker, settle
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Model, Sampling, Trees
from agentrm.core.protocols import Policy, RewardModel
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore
from agentrm.search.episode import Opening
from agentrm.search.mcts import TreeSearch


class TreeBuilder(Worker):
    """Grows trees of one configuration and commits them, with a policy that is connected already; `fleets` as
    `Worker`'s.
    """

    def __init__(
        self,
        settings: Trees,
        opening: Opening,
        policy: Policy,
        store: str,
        environments: Fleet,
        reward_model: RewardModel | None,
        fleets: Sequence[Fleet] = (),
    ) -> None:
        settle()
        super().__init__(fleets)
        self._metrics = TreeMetrics()
        sessions, grader = RemoteSessions(environments), RemoteGrader(environments)
        self._learning, self._measuring = (
            TreeSearch(policy, sessions, grader, search, opening, reward_model)
            for search in (settings, settings.measuring)
        )
        self._store = TreeStore(store)

    async def _pieces(self, task: Task, what: Sequence[int]) -> AsyncIterator[dict[str, float]]:
        """The trees of a task with these numbers, one after another; no more of them when one cannot be grown."""
        search = self._learning if task.split == "train" else self._measuring
        calls = search.calls(task)
        for number in what:
            tree = await search.grow(task, number, calls)
            if not tree.grown and tree.failure:
                raise tree.failure
            await asyncio.to_thread(self._store.write, tree)
            counts = _counts(tree)
            self._metrics.count(task.environment, counts)
            yield counts


def _counts(tree: Tree) -> dict[str, float]:
    return {
        "trees": 1,
        "nodes": len(tree.nodes),
        "rollouts": tree.nodes[0].visits,
        "tokens": tree.policy_tokens,
        "steps": tree.environment_steps,
        "root_value": tree.nodes[0].value,
        "malformed": sum(node.malformed for node in tree.nodes),
        "cleaned": sum(bool(node.removed) for node in tree.nodes),
        "environment_errors": tree.environment_errors,
        "engine_errors": tree.engine_errors,
    }


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Builder(TreeBuilder):
    """A `TreeBuilder` on a CPU core of its own, over policy replicas and environment hosts."""

    def __init__(
        self,
        settings: Trees,
        model: Model,
        sampling: Sampling,
        seed: int,
        policy_directory: str,
        store: str,
        policy: Fleet,
        environments: Fleet,
        reward_model: RewardModel | None,
    ) -> None:
        opening = Opening.of(model)
        connected = connect_policy(model, sampling, seed, policy_directory, policy)
        super().__init__(settings, opening, connected, store, environments, reward_model, (policy, environments))


def start_builders(
    config: Config, policy_directory: str, store: str, policy: Fleet, environments: Fleet, model: RewardModel | None
) -> Fleet:
    """Start `trees.builders` builders over started replicas and hosts."""
    size = Size.of(config.trees.builders, config.trees.max_builders, config.trees.concurrency)
    parts = config.trees, config.model, config.sampling, config.seed
    arguments = (*parts, policy_directory, store, policy, environments, model)
    return Fleet.start(Builder, size, actor_options(config, Role.environments), *arguments)

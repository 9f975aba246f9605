"""Tree builders: each grows many trees at once as coroutines and commits them straight to storage."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import ray

from actors.environments import RemoteGrader, RemoteSessions, yield_to_engines
from actors.fleet import Fleet, Size
from actors.metrics import TreeMetrics
from actors.policy import connect_policy
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Model, Sampling, Trees
from agentrm.core.errors import EnvironmentFailure, ModelError, ModelUnavailable, UserError
from agentrm.core.protocols import Policy, RewardModel
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore
from agentrm.search.episode import Opening
from agentrm.search.mcts import TreeSearch

Members = tuple[list[str], list[str]]
"""The arguments of `Fleet.update`."""
Counts = dict[str, Any]
"""What trees counted together, by name, and under `failed` the AgentRMError for which there are no more of them."""


class TreeBuilder:
    """Grows trees of one configuration and commits them; holds no more of them than run at a time."""

    def __init__(
        self,
        settings: Trees,
        opening: Opening,
        policy: Policy,
        store: str,
        environments: Fleet,
        reward_model: RewardModel | None,
    ) -> None:
        yield_to_engines()
        # What is imported by now lives as long as this process, so the collector need not walk it.
        gc.freeze()
        self._metrics = TreeMetrics()
        sessions, grader = RemoteSessions(environments), RemoteGrader(environments)
        self._learning, self._measuring = (
            TreeSearch(policy, sessions, grader, search, opening, reward_model)
            for search in (settings, settings.measuring)
        )
        self._store = TreeStore(store)

    async def build(self, task: Task, numbers: Sequence[int]) -> Counts:
        """Grow and commit these trees of one task, one after another; returns their summed counts.

        A task whose tree cannot be grown gives the reason in `failed` and no more trees. Raises ModelUnavailable.
        """
        counts: dict[str, float] = defaultdict(float)
        search = self._learning if task.split == "train" else self._measuring
        calls = search.calls(task)
        try:
            for number in numbers:
                tree = await search.grow(task, number, calls)
                if not tree.grown and tree.failure:
                    raise tree.failure
                await asyncio.to_thread(self._store.write, tree)
                found = _counts(tree)
                self._metrics.count(task.environment, found)
                for name, count in found.items():
                    counts[name] += count
        except ModelUnavailable:
            raise
        except (EnvironmentFailure, ModelError, UserError) as error:
            # Ray hands over an actor's error as one that cannot be sent on.
            return {**counts, "failed": getattr(error, "cause", error)}
        return dict(counts)


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
    """A `TreeBuilder` on a CPU core of its own, over policy replicas."""

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
        opening = Opening(model.instructions, model.action_format)
        connected = connect_policy(model, sampling, seed, policy_directory, policy)
        super().__init__(settings, opening, connected, store, environments, reward_model)
        self._policy, self._environments = policy, environments
        self._load = 0

    async def build(self, task: Task, numbers: Sequence[int]) -> Counts:
        """See `TreeBuilder`."""
        self._load += 1
        try:
            return await super().build(task, numbers)
        finally:
            self._load -= 1

    async def load(self) -> int:
        """See `actors.scaling`."""
        return self._load

    async def update(self, policy: Members, environments: Members) -> None:
        """Take up which replicas and hosts serve, and which are lost: see `Fleet.update`."""
        self._policy.update(*policy)
        self._environments.update(*environments)


class Builders:
    """A fleet of builders as one: each is kept at `lanes` tasks, what is more waits here."""

    def __init__(self, fleet: Fleet, lanes: int) -> None:
        self._fleet = fleet
        self._lanes = lanes
        self._running: Counter[str] = Counter()
        self._admitted = 0
        self._waiting = 0
        self._room = asyncio.Event()

    def load(self) -> int:
        """Tasks that are built or wait."""
        return self._admitted + self._waiting

    async def build(self, task: Task, numbers: Sequence[int]) -> Counts:
        """See `TreeBuilder`. Of a builder that is lost, another one builds what was not done; a tree that both commit
        is there once.
        """

        async def ask(name: str) -> Counts:
            try:
                return await self._fleet.find(name).build.remote(task, numbers)
            finally:
                self._running[name] -= 1

        self._waiting += 1
        try:
            while self._admitted >= self._lanes * len(self._fleet.names):
                self._room.clear()
                await self._room.wait()
        finally:
            self._waiting -= 1
        self._admitted += 1
        try:
            return await self._fleet.ask(self._least_busy, ask)
        finally:
            self._admitted -= 1
            self._room.set()

    def tell(self, policy: Fleet, environments: Fleet) -> None:
        """Let all builders know the members of their fleets; called when this fleet's own may have changed."""
        self._room.set()
        for builder in self._fleet.handles:
            builder.update.remote((policy.names, policy.lost), (environments.names, environments.lost))

    def _least_busy(self) -> str:
        name = min(self._fleet.names, key=self._running.__getitem__)
        self._running[name] += 1
        return name


def start_builders(
    config: Config, policy_directory: str, store: str, policy: Fleet, environments: Fleet, model: RewardModel | None
) -> Fleet:
    """Start `trees.builders` builders over started replicas and hosts."""
    size = Size.of(config.trees.builders, config.trees.max_builders, config.trees.concurrency)
    parts = config.trees, config.model, config.sampling, config.seed
    arguments = (*parts, policy_directory, store, policy, environments, model)
    return Fleet.start(Builder, size, actor_options(config, Role.environments), *arguments)

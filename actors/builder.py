"""Tree builders: each grows many trees at once as coroutines and commits them straight to storage."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import ray

from actors.environments import RemoteGrader, RemoteSessions
from actors.fleet import Fleet
from actors.policy import connect_policy
from agentrm.config.schema import Config
from agentrm.data.trees import TreeStore
from agentrm.environments.base import Task
from agentrm.errors import EnvironmentFailure
from agentrm.models.base import Policy, RewardModel
from agentrm.search.episode import Opening
from agentrm.search.mcts import TreeSearch
from agentrm.search.tree import Tree


class TreeBuilder:
    """Grows trees of one configuration and commits them; holds no more of them than run at a time."""

    def __init__(
        self, config: Config, policy: Policy, store: str, environments: Fleet, reward_model: RewardModel | None
    ) -> None:
        self._search = TreeSearch(
            policy,
            RemoteSessions(environments),
            RemoteGrader(environments),
            config.trees,
            Opening(config.model.instructions, config.model.action_format),
            reward_model,
        )
        self._store = TreeStore(store)

    async def build(self, task: Task, numbers: Sequence[int]) -> dict[str, float | str]:
        """Grow and commit these trees of one task, one after another; returns their summed counts.

        A task that cannot start, or whose environment failed in every simulation, gives `failed` and no more trees.
        """
        counts: dict[str, float] = defaultdict(float)
        calls = self._search.calls(task)
        try:
            for number in numbers:
                tree = await self._search.grow(task, number, calls)
                if tree.ended_by == "environment" and not tree.nodes[0].visits:
                    raise EnvironmentFailure(f"no simulation came to its end: task {task.id}")
                await asyncio.to_thread(self._store.write, tree)
                for name, count in _counts(tree).items():
                    counts[name] += count
        except EnvironmentFailure as error:
            return {**counts, "failed": str(error)}
        return dict(counts)


def _counts(tree: Tree) -> dict[str, float]:
    return {
        "trees": 1,
        "nodes": len(tree.nodes),
        "rollouts": tree.nodes[0].visits,
        "tokens": tree.policy_tokens,
        "root_value": tree.nodes[0].value,
        "malformed": sum(node.malformed for node in tree.nodes),
        "environment_errors": tree.environment_errors,
        "engine_errors": tree.engine_errors,
    }


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Builder(TreeBuilder):
    """A `TreeBuilder` on a CPU core of its own, over policy replicas."""

    def __init__(
        self,
        config: Config,
        policy_directory: str,
        store: str,
        policy: Fleet,
        environments: Fleet,
        reward_model: RewardModel | None,
    ) -> None:
        connected = connect_policy(config, Path(policy_directory), policy)
        super().__init__(config, connected, store, environments, reward_model)

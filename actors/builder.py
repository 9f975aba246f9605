"""Tree builders: each grows many trees at once as coroutines and commits them straight to storage."""

from __future__ import annotations

import asyncio
from pathlib import Path

import ray

from actors.environments import RemoteGrader, RemoteSessions
from actors.fleet import Fleet
from actors.policy import connect_policy
from agentrm.config.schema import Config
from agentrm.data.trees import TreeStore
from agentrm.environments.base import Task
from agentrm.errors import EnvironmentFailure
from agentrm.search.episode import Opening
from agentrm.search.mcts import TreeSearch


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Builder:
    """Grows trees; holds no more of them than run at a time."""

    def __init__(
        self,
        config: Config,
        policy_directory: str,
        store: str,
        policy: Fleet,
        environments: Fleet,
    ) -> None:
        self._search = TreeSearch(
            connect_policy(config, Path(policy_directory), policy),
            RemoteSessions(environments),
            RemoteGrader(environments),
            config.trees,
            Opening(config.model.instructions, config.model.action_format),
        )
        self._store = TreeStore(store)

    async def build(self, task: Task) -> dict[str, float | str]:
        """Grow and commit the tree of one task; returns its counts. A task that cannot start gives `failed`."""
        try:
            tree = await self._search.grow(task)
        except EnvironmentFailure as error:
            return {"failed": str(error)}
        await asyncio.to_thread(self._store.write, tree)
        return {
            "nodes": len(tree.nodes),
            "rollouts": tree.nodes[0].visits,
            "tokens": tree.policy_tokens,
            "root_value": tree.nodes[0].value,
            "malformed": sum(node.malformed for node in tree.nodes),
            "environment_errors": tree.environment_errors,
        }

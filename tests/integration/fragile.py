"""A policy replica that breaks when it is told to; a module of its own, for the replica's process imports it."""

from __future__ import annotations

import ray

from actors.policy import PolicyReplica


@ray.remote(max_restarts=-1, max_task_retries=-1)
class FragileReplica(PolicyReplica.__ray_metadata__.modified_class):
    """See `PolicyReplica`."""

    async def sabotage(self) -> None:
        """Let the engine fail at its next step."""
        self._engine._loop._core.step = None

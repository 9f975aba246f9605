"""A policy replica that breaks when it is told to; a module of its own, for the replica's process imports it."""

from __future__ import annotations

from typing import Any

import ray

from actors.policy import PolicyReplica


@ray.remote(max_restarts=-1, max_task_retries=-1)
class FragileReplica(PolicyReplica.__ray_metadata__.modified_class):
    """See `PolicyReplica`."""

    _asked = 0

    async def _generate(self, *request: Any) -> Any:
        self._asked += 1
        return await super()._generate(*request)

    async def asked(self) -> int:
        """How many requests have come."""
        return self._asked

    async def sabotage(self) -> None:
        """Let the engine fail at its next step."""
        self._engine._loop._core.step = None

"""Policy replicas: one vLLM engine per Ray actor, and the client that spreads prompts over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ray

from actors.fleet import Fleet
from agentrm.config.schema import Config, Engine, Sampling
from agentrm.models.policy import Completion, GenerationEngine, LanguageModelPolicy
from agentrm.models.rendering import Renderer

# Prompts that share this many first tokens go to one replica, whose prefix cache then holds them.
_AFFINITY = 128


@ray.remote(max_restarts=-1, max_task_retries=-1)
class PolicyReplica:
    """A `Generator` on its own CPU core or GPUs; a replica that dies is started again and its requests are repeated."""

    def __init__(
        self, directory: str, engine: Engine, sampling: Sampling, context: int, stop_ids: list[int], seed: int
    ) -> None:
        self._engine = GenerationEngine(directory, engine, sampling, context, stop_ids, seed)

    async def generate(self, ids: list[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        """See `agentrm.models.policy.Generator`."""
        return await self._engine.generate(ids, n, greedy, seed)


class RemoteGenerator:
    """A `Generator` over replicas; prompts of one episode stay on one replica."""

    def __init__(self, replicas: Fleet) -> None:
        self._replicas = replicas

    async def generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        """See `agentrm.models.policy.Generator`."""
        replica = self._replicas.member(repr(ids[:_AFFINITY]))
        return await replica.generate.remote(list(ids), n, greedy, seed)


def start_policy(config: Config, directory: Path) -> Fleet:
    """Start all replicas of the policy in a directory."""
    engine = config.policy_engine
    stop_ids = Renderer.from_pretrained(directory, config.model.context).stop_ids
    arguments = (str(directory), engine, config.sampling, config.model.context, stop_ids, config.seed)
    return Fleet.start(PolicyReplica, engine.replicas, {"num_cpus": 1, "num_gpus": engine.gpus}, *arguments)


def connect_policy(config: Config, directory: Path, replicas: Fleet) -> LanguageModelPolicy:
    """The `Policy` over started replicas."""
    renderer = Renderer.from_pretrained(directory, config.model.context)
    return LanguageModelPolicy(RemoteGenerator(replicas), renderer, config.model.action_format, config.seed)

"""What keeps the books for the benchmarks of tree building and search, and the engines that replay their requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from actors.builder import TreeBuilder
from actors.fleet import Fleet
from actors.policy import RemoteGenerator
from agentrm.config.schema import Config
from agentrm.models.base import RewardModel
from agentrm.models.engine import ScoringEngine
from agentrm.models.policy import Completion, GenerationEngine, Generator, LanguageModelPolicy
from agentrm.models.rendering import Renderer
from agentrm.models.state import State

# Prompts that no task has: an engine compiles kernels at its first requests, alone and in batches.
_WARMING = [[token] * 48 for token in range(1, 17)]


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a generator; `ids` is int32 of shape (length,)."""

    ids: np.ndarray
    n: int
    seed: int


class Ledger:
    """A generator that keeps every request, and answers one at a time if `serial`."""

    def __init__(self, generator: Generator, serial: bool) -> None:
        self._generator = generator
        self._turn = asyncio.Lock() if serial else nullcontext()
        self.requests: list[Request] = []

    async def generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        """See `agentrm.models.policy.Generator`."""
        self.requests.append(Request(np.asarray(ids, dtype=np.int32), n, seed))
        async with self._turn:
            return await self._generator.generate(ids, n, greedy, seed)


@ray.remote
class MeasuredBuilder(TreeBuilder):
    """A builder over policy replicas, or over plain transformers in this process when it is given none."""

    def __init__(
        self, config: Config, policy_directory: str, store: str, policy: Fleet | None, environments: Fleet, serial: bool
    ) -> None:
        renderer = Renderer.from_pretrained(Path(policy_directory), config.model.context)
        self._generator: Generator
        if policy is None:
            from agentrm.models.transformers_generator import TransformersGenerator

            device = "cuda" if config.policy_engine.gpus else "cpu"
            arguments = policy_directory, config.sampling, config.model.context, renderer.stop_ids, device
            self._generator = TransformersGenerator(*arguments)
        else:
            self._generator = RemoteGenerator(policy)
        self._ledger = Ledger(self._generator, serial)
        model = LanguageModelPolicy(self._ledger, renderer, config.model.action_format, config.seed)
        super().__init__(config, model, store, environments, None)

    async def warm(self) -> None:
        """Return when the engine has answered once, alone and in a batch."""
        await warm(self._generator)

    async def cpu_seconds(self) -> float:
        """What this process has used so far."""
        return time.process_time()

    async def requests(self) -> list[Request]:
        """Every request so far, in the order in which they were made."""
        return self._ledger.requests


@ray.remote
class Replay:
    """One engine that answers a list of requests as fast as it can: the limit of what building can reach."""

    def __init__(self, config: Config, policy_directory: str) -> None:
        stop_ids = Renderer.from_pretrained(policy_directory, config.model.context).stop_ids
        arguments = policy_directory, config.policy_engine, config.sampling, config.model.context, stop_ids
        self._engine = GenerationEngine(*arguments, config.seed)

    async def run(self, requests: Sequence[Request]) -> tuple[float, int]:
        """Seconds and sampled tokens of all requests, made at once."""
        await warm(self._engine)
        started = time.perf_counter()
        answers = await asyncio.gather(
            *(self._engine.generate(each.ids.tolist(), each.n, False, each.seed) for each in requests)
        )
        return time.perf_counter() - started, sum(each.tokens for answer in answers for each in answer)


class ScoreLedger:
    """A reward model that keeps every state that it was asked for."""

    def __init__(self, reward_model: RewardModel) -> None:
        self._reward_model = reward_model
        self.states: list[State] = []

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `agentrm.models.base.RewardModel`."""
        self.states += states
        return await self._reward_model.score(states)


@ray.remote
class ScoreReplay:
    """One pooling engine that scores a list of token ids as fast as it can."""

    def __init__(self, config: Config, directory: str) -> None:
        self._engine = ScoringEngine(directory, config.reward_engine, config.model.context)

    async def run(self, ids: Sequence[Sequence[int]]) -> float:
        """Seconds of all requests, made at once."""
        await self._engine.score_ids(_WARMING)
        started = time.perf_counter()
        await self._engine.score_ids(ids)
        return time.perf_counter() - started


async def warm(generator: Generator) -> None:
    """The first requests of an engine."""
    await generator.generate(_WARMING[0], 1, False, 0)
    await asyncio.gather(*(generator.generate(ids, 3, False, 0) for ids in _WARMING))

"""What the benchmarks run on a cluster: what keeps the books, and engines and models that are called directly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass

import numpy as np
import ray
import torch

from actors.builder import TreeBuilder
from actors.environments import RemoteGrader, RemoteSessions
from actors.fleet import Fleet
from actors.policy import RemoteGenerator
from actors.searcher import Asked
from actors.workers import Worker, settle
from agentrm import storage
from agentrm.config.schema import Config, Engine, Model, Sampling, Trees
from agentrm.core.protocols import RewardModel
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.models import adapters
from agentrm.models.engine import scoring_engines
from agentrm.models.ensemble import described
from agentrm.models.policy import Completion, GenerationEngine, Generator, LanguageModelPolicy
from agentrm.rendering.renderer import Renderer
from agentrm.search.beam import Beam
from agentrm.search.episode import Opening
from agentrm.search.strategy import search

# How many states transformers scores in one padded batch.
PADDED_ROWS = 32

# Prompts that no task has: an engine compiles kernels at its first requests, alone and in batches.
_WARMING = [[token] * 48 for token in range(1, 17)]


@dataclass(frozen=True, slots=True)
class Generation:
    """What the policy at the location `directory` is asked with."""

    directory: str
    model: Model
    engine: Engine
    sampling: Sampling
    seed: int

    @classmethod
    def of(cls, config: Config, directory: str) -> Generation:
        """As a run asks its own."""
        return cls(directory, config.model, config.policy_engine, config.sampling, config.seed)

    def renderer(self) -> Renderer:
        """The policy's own."""
        return Renderer.from_pretrained(storage.fetch(self.directory), self.model.context)


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
        self, trees: Trees, asking: Generation, store: str, policy: Fleet | None, environments: Fleet, serial: bool
    ) -> None:
        model = asking.model
        self._generator: Generator = _transformers_generator(asking) if policy is None else RemoteGenerator(policy)
        self._ledger = Ledger(self._generator, serial)
        asked = LanguageModelPolicy(
            self._ledger, asking.renderer(), model.action_format, asking.seed, model.tool_parser
        )
        opening = Opening.of(model)
        super().__init__(trees, opening, asked, store, environments, None)

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

    def __init__(self, asking: Generation) -> None:
        directory, stop_ids = storage.fetch(asking.directory), asking.renderer().stop_ids
        arguments = directory, asking.engine, asking.sampling, asking.model.context, stop_ids
        self._engine = GenerationEngine(*arguments, asking.seed)

    async def warm(self) -> None:
        """Return when the engine has answered once, alone and in a batch."""
        await warm(self._engine)

    async def run(self, requests: Sequence[Request]) -> tuple[float, int]:
        """Seconds and sampled tokens of all requests, made at once."""
        started = time.perf_counter()
        answers = await asyncio.gather(
            *(self._engine.generate(request.ids.tolist(), request.n, False, request.seed) for request in requests)
        )
        return time.perf_counter() - started, sum(completion.tokens for answer in answers for completion in answer)


@ray.remote
class TransformersReplay:
    """Plain transformers that answers requests one after the other, each prompt read anew."""

    def __init__(self, asking: Generation) -> None:
        self._generator = _transformers_generator(asking)

    async def run(self, requests: Sequence[Request], limit_s: float) -> tuple[float, int]:
        """Seconds and number of as many requests as end in about `limit_s`."""
        await warm(self._generator)
        started, answered = time.perf_counter(), 0
        for request in requests:
            await self._generator.generate(request.ids.tolist(), request.n, False, request.seed)
            answered += 1
            if time.perf_counter() - started > limit_s:
                break
        return time.perf_counter() - started, answered


class ScoreLedger:
    """A reward model that keeps every state that it was asked for."""

    def __init__(self, reward_model: RewardModel) -> None:
        self._reward_model = reward_model
        self.states: list[State] = []

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `agentrm.core.protocols.RewardModel`."""
        self.states += states
        return await self._reward_model.score(states)


@ray.remote
class MeasuredSearcher(Worker):
    """A searcher that runs beam search on each task, commits nothing, and keeps what it asked the models."""

    def __init__(self, asked: Asked) -> None:
        settle()
        super().__init__(asked.fleets)
        self._asked = asked
        self._beam = Beam(asked.settings.width, asked.settings.branches)
        self._ledger = Ledger(RemoteGenerator(asked.replicas), serial=False)
        reward_model = asked.reward_model()
        assert reward_model is not None
        self._scored = ScoreLedger(reward_model)
        self._sessions, self._grader = RemoteSessions(asked.hosts), RemoteGrader(asked.hosts)
        model = asked.model
        renderer = Renderer.from_pretrained(storage.fetch(asked.policy_directory), model.context)
        self._policy = LanguageModelPolicy(self._ledger, renderer, model.action_format, asked.seed, model.tool_parser)

    async def warm(self) -> None:
        """Return when the policy's engine has answered once, alone and in a batch."""
        await warm(self._ledger)

    async def begin(self, todo: Sequence[Task]) -> None:
        """Return when tasks can be searched at full speed: environments and the reward model have answered too."""
        first = await asyncio.gather(*(self._sessions.observe(task, ()) for task in todo))
        opening = self._asked.opening
        await self._scored.score([opening(task, observation) for task, observation in zip(todo, first, strict=True)])
        self._ledger.requests.clear()
        self._scored.states.clear()

    async def _pieces(self, task: Task, what: str) -> AsyncIterator[dict[str, float]]:
        """One search, with its cost and whether it solved the task."""
        settings, opening = self._asked.settings, self._asked.opening
        result = await search(self._beam, task, self._policy, self._sessions, self._scored, settings, opening)
        grade = await self._grader.grade(task, result.state.actions)
        yield {"searches": 1, "solved": grade.success, **asdict(result.cost)}

    async def cpu_seconds(self) -> float:
        """What this process has used so far."""
        return time.process_time()

    async def kept(self) -> tuple[list[Request], list[State]]:
        """All that it asked the policy and the reward model for, in the order of asking."""
        return self._ledger.requests, self._scored.states


@ray.remote
class DirectScoring:
    """The pooling engines of a reward model, one for each member of an ensemble, without a service around them; inputs
    are token ids.
    """

    def __init__(self, directory: str, engine: Engine, context: int) -> None:
        members, _ = described(storage.fetch(directory))
        self._engines = scoring_engines(members, engine, context, lambda member: 0)

    async def warm(self) -> None:
        """Return when the engines have answered once."""
        await self.run(_WARMING)

    async def run(self, batch: Sequence[list[int]]) -> float:
        """Seconds for all states of a batch at once."""
        started = time.perf_counter()
        await asyncio.gather(*(engine.score_ids(batch) for engine in self._engines))
        return time.perf_counter() - started


@ray.remote
class TransformersScoring:
    """The same reward model in plain transformers, all members of an ensemble in turn, which pads the states of a batch
    and reads them anew.
    """

    def __init__(self, directory: str, engine: Engine) -> None:
        members, _ = described(storage.fetch(directory))
        models = [adapters.load(member) for member in members]
        self._device = _device(engine)
        self._models = [model.to(self._device).eval() for model in models]

    @torch.inference_mode()
    def run(self, batches: Sequence[Sequence[list[int]]], limit_s: float) -> tuple[float, int]:
        """Seconds and states of as many batches, cut into PADDED_ROWS rows, as end in about `limit_s`."""
        self._score(_WARMING)
        started, states = time.perf_counter(), 0
        for batch in batches:
            for start in range(0, len(batch), PADDED_ROWS):
                rows = batch[start : start + PADDED_ROWS]
                self._score(rows)
                states += len(rows)
                if time.perf_counter() - started > limit_s:
                    return time.perf_counter() - started, states
        return time.perf_counter() - started, states

    def _score(self, rows: Sequence[list[int]]) -> None:
        width, pad = max(map(len, rows)), self._models[0].config.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._device)
        for model in self._models:
            model(input_ids=ids, attention_mask=mask).logits.tolist()


def _transformers_generator(asking: Generation) -> Generator:
    from agentrm.models.transformers_generator import TransformersGenerator

    directory, stop_ids = storage.fetch(asking.directory), asking.renderer().stop_ids
    return TransformersGenerator(directory, asking.sampling, asking.model.context, stop_ids, _device(asking.engine))


def _device(engine: Engine) -> str:
    return "cuda" if engine.gpus else "cpu"


async def warm(generator: Generator) -> None:
    """The first requests of an engine."""
    await generator.generate(_WARMING[0], 1, False, 0)
    await asyncio.gather(*(generator.generate(ids, 3, False, 0) for ids in _WARMING))

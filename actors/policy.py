"""Policy replicas: one vLLM engine per Ray actor, and the client that spreads prompts over them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray

from actors.exchange import Answer, BatchClient, BatchServer, Request
from actors.fleet import Fleet, Size
from agentrm import storage
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Engine, Judging, Method, Model, Sampling
from agentrm.core.errors import UserError
from agentrm.core.protocols import Policy
from agentrm.models import openai_policy
from agentrm.models.judge import MOST_TOKENS, Completer, EndpointCompleter, LocalCompleter
from agentrm.models.policy import Completion, GenerationEngine, LanguageModelPolicy
from agentrm.models.routing import PrefixRouter
from agentrm.rendering.renderer import Renderer

_WATCH_S = 1.0


@ray.remote(max_restarts=-1, max_task_retries=-1)
class PolicyReplica:
    """A `Generator` on its own CPU core or GPUs; a replica that dies is started again and its requests are repeated.

    A replica whose engine dies ends: the requests that the engine held fail, all others wait for the next one.
    """

    def __init__(
        self, directory: str, engine: Engine, sampling: Sampling, context: int, stop_ids: list[int], seed: int
    ) -> None:
        model = storage.fetch(directory)
        self._engine = GenerationEngine(model, engine, sampling, context, stop_ids, seed)
        self._server = BatchServer(self._generate)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    async def _generate(self, *request: Any) -> list[Completion]:
        if not self._engine.alive:
            await asyncio.Event().wait()
        return await self._engine.generate(*request)

    def _watch(self) -> None:
        while self._engine.alive:
            time.sleep(_WATCH_S)
        # Those whose requests failed hear of it before.
        time.sleep(_WATCH_S)
        os._exit(1)

    async def submit(self, client: str, requests: dict[int, Request]) -> str:
        """See `BatchServer`; a request holds the arguments of `Generator.generate`."""
        return await self._server.submit(client, requests)

    async def collect(self, client: str, life: str, confirmed: list[int]) -> tuple[str, dict[int, Answer]]:
        """See `BatchServer`; an answer is a list of `Completion`s."""
        return await self._server.collect(client, life, confirmed)

    async def load(self) -> int:
        """See `actors.scaling`."""
        return self._server.load


class RemoteGenerator:
    """A `Generator` over replicas, which share the work and keep what they have read of an episode."""

    def __init__(self, replicas: Fleet) -> None:
        self._replicas = replicas
        self._router = PrefixRouter()
        self._clients: dict[str, BatchClient] = {}

    async def generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        """See `agentrm.models.policy.Generator`."""

        async def ask(name: str) -> list[Completion]:
            if name not in self._clients:
                self._clients[name] = BatchClient(self._replicas.find(name))
            return await self._clients[name].ask(list(ids), n, greedy, seed)

        with self._router.request(ids) as request:
            completions = await self._replicas.ask(lambda: request.place(self._replicas.names), ask)
            # Greedy ones are one, said n times.
            request.generated(sum(completion.tokens for completion in completions[: 1 if greedy else n]))
        return completions


def start_policy(config: Config, directory: storage.Location) -> Fleet:
    """Start all replicas of the policy at a location; there are none of a remote one."""
    if openai_policy.FILE in storage.names(directory):
        return Fleet([])
    engine = config.policy_engine
    stop_ids = Renderer.from_pretrained(storage.fetch(directory), config.model.context).stop_ids
    arguments = (str(directory), engine, config.sampling, config.model.context, stop_ids, config.seed)
    size = Size.of(engine.replicas, engine.max_replicas, engine.max_num_seqs)
    return Fleet.start(PolicyReplica, size, actor_options(config, Role.rollouts, engine.gpus), *arguments)


def connect_policy(model: Model, sampling: Sampling, seed: int, directory: storage.Location, replicas: Fleet) -> Policy:
    """The `Policy` over started replicas, or the remote one."""
    if not replicas.names:
        return openai_policy.connect(storage.fetch(directory), model, sampling, seed)
    renderer = Renderer.from_pretrained(storage.fetch(directory), model.context)
    return LanguageModelPolicy(RemoteGenerator(replicas), renderer, model.action_format, seed, model.tool_parser)


def start_judge(config: Config) -> Fleet:
    """Start all replicas of the judge; there are none unless the method is evaluated and it is a model of its own."""
    judge, engine = config.evaluate.judge, config.judge_engine
    if Method.judge not in config.evaluate.methods or not judge.is_local:
        return Fleet([])
    directory = storage.absolute(judge.source)
    if not (storage.fetch(directory) / "config.json").is_file():
        raise UserError(
            f"evaluate.judge.source is {judge.source}, where there is no config.json: name policy, the directory of a "
            "chat model, or an endpoint's address with evaluate.judge.name"
        )
    stop_ids = Renderer.from_pretrained(storage.fetch(directory), judge.context).stop_ids
    sampling = Sampling(max_tokens=MOST_TOKENS)
    arguments = (directory, engine, sampling, judge.context, stop_ids, config.seed)
    size = Size.of(engine.replicas, engine.max_replicas, engine.max_num_seqs)
    return Fleet.start(PolicyReplica, size, actor_options(config, Role.rollouts, engine.gpus), *arguments)


def connect_judge(
    judge: Judging, model: Model, sampling: Sampling, directory: storage.Location, replicas: Fleet, judges: Fleet
) -> Completer:
    """Who answers for the method `judge`: the started policy, the started judges, or the endpoint that the model or the
    judge's settings name.
    """
    if judge.is_local and judges.names:
        renderer = Renderer.from_pretrained(storage.fetch(storage.absolute(judge.source)), judge.context)
        return LocalCompleter(RemoteGenerator(judges), renderer, MOST_TOKENS)
    if judge.source == "policy" and replicas.names:
        renderer = Renderer.from_pretrained(storage.fetch(directory), model.context)
        return LocalCompleter(RemoteGenerator(replicas), renderer, sampling.max_tokens)
    url, name = (model.source, model.name) if judge.source == "policy" else (judge.source, judge.name)
    return EndpointCompleter(url, name, openai_policy.api_key())

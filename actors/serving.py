"""The reward model on Ray Serve: engine replicas behind a handle, and behind HTTP when asked for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from agentrm.config.schema import Config, Engine
from agentrm.errors import ContextOverflow, ModelError
from agentrm.models.engine import ScoringEngine
from agentrm.models.rendering import Renderer
from agentrm.models.reward import score_what_fits
from agentrm.models.state import Message, State
from agentrm.scoring_api import Busy, create_app

# The engine batches whatever has arrived, so a replica takes as many requests as its queue may hold.
_ONGOING = 4096
_CHUNK = 64


class Scorer:
    """One replica: a pooling engine and the renderer of its tokenizer."""

    def __init__(self, directory: str, engine: Engine, context: int) -> None:
        self._renderer = Renderer.from_pretrained(directory, context)
        self._engine = ScoringEngine(directory, engine, context)

    async def score(self, conversations: list[list[Message]]) -> list[float]:
        """Raw values, one per conversation. Raises ContextOverflow."""
        ids = await asyncio.to_thread(lambda: [self._renderer.ids(each) for each in conversations])
        return await self._engine.score_ids(ids)

    async def rank(self, conversations: list[list[Message]]) -> list[float]:
        """Raw values for a search: -inf for a conversation that exceeds the context."""
        return await score_what_fits(self._engine, self._renderer, conversations)

    def alive(self) -> bool:
        """Whether the engine still runs."""
        return self._engine.alive

    def check_health(self) -> None:
        """Called by Serve, which replaces the replica when this raises."""
        if not self._engine.alive:
            raise ModelError("the reward model's engine has stopped")

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()


class ServedRewardModel:
    """A `RewardModel` over a handle from `deployed`; replicas share the work in chunks."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def score(self, states: Sequence[State]) -> list[float]:
        """One raw value per state, -inf for one that exceeds the context. Raises ModelError without an answer."""
        conversations = [state.messages() for state in states]
        chunks = [conversations[start : start + _CHUNK] for start in range(0, len(conversations), _CHUNK)]
        scored = await asyncio.gather(*(_answer(self._handle.rank, chunk) for chunk in chunks))
        return [value for chunk in scored for value in chunk]


@contextmanager
def deployed(config: Config, directory: Path, http: bool) -> Iterator[DeploymentHandle]:
    """Serve the reward model that lies in `directory` on the connected cluster for the block, from when it is ready.

    Yields the handle of the scorers; with `http` the API listens on `serve.host` and `serve.port` as well. Raises
    ModelError when the directory holds no reward model or the engine does not start.
    """
    _check(directory)
    name = application(config)
    engine, settings, context = config.reward_engine, config.serve, config.model.context
    scorer = serve.deployment(
        Scorer,
        name="Scorer",
        num_replicas=engine.replicas,
        ray_actor_options={"num_cpus": 1, "num_gpus": engine.gpus},
        max_ongoing_requests=_ONGOING,
        max_queued_requests=_ONGOING,
    ).bind(str(directory), engine, context)

    def build() -> FastAPI:
        handle = serve.get_deployment_handle("Scorer", app_name=name)

        async def healthy() -> bool:
            try:
                return await handle.alive.remote()
            except RayError:
                return False

        return create_app(lambda conversations: _answer(handle.score, conversations), healthy, settings, name, context)

    api = serve.deployment(
        serve.ingress(build)(),
        name="API",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_ONGOING,
        max_queued_requests=_ONGOING,
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly" if http else "Disabled",
        http_options={"host": settings.host, "port": settings.port},
    )
    try:
        if http:
            serve.run(api.bind(scorer), name=name, route_prefix="/")
        else:
            serve.run(scorer, name=name, route_prefix=None)
    except RuntimeError as error:
        serve.delete(name)
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"the reward model in {directory} could not be served: {reason}") from error
    try:
        yield serve.get_deployment_handle("Scorer", app_name=name)
    finally:
        serve.delete(name)


def application(config: Config) -> str:
    """The name of a run's Serve application, which is the model's name in the API."""
    return f"agentrm-{Path(config.run).name}"


async def _answer(method: DeploymentHandle, conversations: list[list[Message]]) -> list[float]:
    try:
        return await method.remote(conversations)
    except ContextOverflow as error:
        # Ray adds the remote traceback to the text; its cause is the error as it was raised.
        raise getattr(error, "cause", error) from None
    except BackPressureError as error:
        raise Busy("the reward model's queue is full: try again in a second") from error
    except RayError as error:
        raise ModelError(f"the reward model did not answer: {str(error).strip().splitlines()[-1]}") from error


def _check(directory: Path) -> None:
    try:
        architectures = json.loads((directory / "config.json").read_text())["architectures"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{directory} holds no model: its config.json cannot be read") from error
    if not architectures[0].endswith("ForSequenceClassification"):
        raise ModelError(f"{directory} holds {architectures[0]}, not a reward model (…ForSequenceClassification)")

"""The reward model on Ray Serve: replicas with engines behind a handle, and behind HTTP when asked for."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from contextvars import Context
from hashlib import blake2b
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY
from ray.serve.config import RequestRouterConfig
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from actors.addressing import Addressed
from agentrm import model_directory, storage
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import MOST_QUEUED, Config, Engine, Serve
from agentrm.core.errors import InputRefused, ModelError, UserError, reason
from agentrm.core.messages import Conversation, runs
from agentrm.core.protocols import RewardModel
from agentrm.core.state import State
from agentrm.evaluation import calibration
from agentrm.models.baselines import WithLikelihood
from agentrm.models.batched import BatchedRewardModel, requests
from agentrm.models.engine import Reading
from agentrm.models.routing import PrefixRouter, rendezvous
from agentrm.models.scorers import Input, Per, Text, Truncated, check, open_scorer
from agentrm.service.api import Busy, create_app

_DEPLOYMENT = "ScoringReplica"

_LONGEST_NAME = 64

# The engine batches whatever has arrived, so a replica takes as many requests as its queue may hold.
_ONGOING = 2 * MOST_QUEUED
_CHUNK = 64

# A replica is added when each has more requests than this; a request holds up to `_CHUNK` inputs.
_BUSY = 8

# Of token ids and text, so many of the first say which replica routes them; of a conversation, the first turn does.
_BEGINNING = 256

_ATTEMPTS = 3

# One more replica at a time while a service is updated.
_SURGE_PERCENT = 1


@serve.ingress()
class ScoringReplica:
    """One replica: a reward model with its engines, and the API. Every answer goes with the `release` that gave it.

    A replica scores what comes over HTTP itself, unless it is one of several whose calls can be `addressed`. Those get
    their share of that from HAProxy, whatever it is: each asks the one that routes all inputs which begin alike, for
    only that one knows who has read what of them.
    """

    def __init__(
        self, directory: str, engine: Engine, context: int, settings: Serve, model: str, release: str, addressed: bool
    ) -> None:
        path = storage.fetch(directory)
        self._scorer = open_scorer(path, engine, context, settings.label)
        self._addressed = addressed
        learned = model_directory.learned_at(path)
        self._api = settings, model, context, self._scorer.labels, calibration.read(path), learned
        self._release = release

    def __serve_build_asgi_app__(self) -> FastAPI:
        self._scorers = scorers_of(serve.get_replica_context().app_name, self._addressed)
        read = self._scorers.relay if self._addressed else self._scorer.read
        return create_app(read, self.alive, *self._api)

    async def read(self, inputs: list[Input], per: Per) -> tuple[str, list[Reading]]:
        """See `agentrm.models.scorers.Scorer`."""
        return self._release, await self._scorer.read(inputs, per)

    async def rank(self, conversations: list[Conversation]) -> tuple[str, list[float]]:
        """See `agentrm.models.scorers.Scorer`."""
        return self._release, await self._scorer.rank(conversations)

    async def place(self, read: list[list[int] | str]) -> tuple[str, list[str]]:
        """See `ScoringService.place`."""
        return self._release, self._scorers.place(read)

    async def alive(self) -> bool:
        """Whether the engines still run."""
        return self._scorer.alive

    def check_health(self) -> None:
        """Called by Serve, which replaces the replica when this raises."""
        if not self._scorer.alive:
            raise ModelError("the reward model's engine has stopped")

    def __del__(self) -> None:
        if hasattr(self, "_scorer"):
            self._scorer.close()


class ScoringService:
    """All replicas behind a handle: they share the work, and an input goes where most of it has been read. What a
    replica that died had in hand is sent again. The values of one call are all from one model, also while the service
    is updated.
    """

    def __init__(self, handle: DeploymentHandle, several: bool) -> None:
        self._handle = handle
        self._several = several
        self._router = PrefixRouter()
        if several:
            # Else it would hear of the replicas only after its first call.
            handle._init_router()

    async def read(self, inputs: list[Input], per: Per) -> list[Reading]:
        """One `Reading` per input. Raises InputRefused, Busy, and ModelError without an answer."""
        return await self._spread("read", inputs, per)

    async def rank(self, conversations: list[Conversation]) -> list[float]:
        """One value per conversation, -inf for one that exceeds the context. Raises ModelError without an answer."""
        return await self._spread("rank", conversations)

    async def relay(self, inputs: list[Input], per: Per) -> list[Reading]:
        """`read`, where the replicas that route such inputs say."""
        places, replicas = [""] * len(inputs), self._replicas()
        if replicas:
            routers = [rendezvous(_beginning(model_input), replicas) for model_input in inputs]
            places = await self._shared("place", routers, [_read(model_input) for model_input in inputs])
        return await self._shared("read", places, inputs, per)

    def place(self, read: Sequence[list[int] | str]) -> list[str]:
        """The replica for each of what others have scored; when that is done, only they know."""
        places, replicas = [], self._replicas()
        for prompt in read:
            with self._router.request(prompt) as request:
                places.append(request.place(replicas) if replicas else "")
        return places

    def close(self) -> None:
        """End the handle's threads, which would outlive the cluster."""
        self._handle.shutdown()

    def _replicas(self) -> list[str]:
        """The ids of those that run, where there may be several; none before the handle was first used."""
        if not self._several:
            return []
        # Serve's public functions do not say. Its property would make a router in this thread, beside the one that
        # Serve's own thread may be making.
        router = self._handle._init_router()._asyncio_router._request_router
        return [] if router is None else [replica.unique_id for replica in list(router.curr_replicas)]

    async def _spread(self, method: str, inputs: Sequence[Input], *arguments: Any) -> list[Any]:
        replicas = self._replicas()
        with ExitStack() as under_way:
            requests = [
                under_way.enter_context(self._router.request(_read(model_input))) for model_input in inputs if replicas
            ]
            places = [request.place(replicas) for request in requests] or [""] * len(inputs)
            return await self._shared(method, places, inputs, *arguments)

    async def _shared(self, method: str, places: Sequence[str], inputs: Sequence[Any], *arguments: Any) -> list[Any]:
        """Ask each place for its inputs, in chunks, or any replica for all of them where the releases differ."""
        lots: dict[str, list[int]] = {}
        for number, place in enumerate(places):
            lots.setdefault(place, []).append(number)
        chunks = [
            (place, numbers[start : start + _CHUNK])
            for place, numbers in lots.items()
            for start in range(0, len(numbers), _CHUNK)
        ]
        answers = await asyncio.gather(
            *(self._ask(method, place, [inputs[i] for i in numbers], *arguments) for place, numbers in chunks)
        )
        if len({release for release, _ in answers}) > 1:
            _, whole = await self._ask(method, "", inputs, *arguments)
            return whole
        by_number = {
            i: one
            for (_, numbers), (_, answer) in zip(chunks, answers, strict=True)
            for i, one in zip(numbers, answer, strict=True)
        }
        return [by_number[number] for number in range(len(inputs))]

    async def _ask(self, method: str, place: str, *arguments: Any) -> tuple[str, list[Any]]:
        for left in reversed(range(_ATTEMPTS)):
            try:
                call = self._handle.options(method_name=method, session_id=place).remote
                # Serve takes the calls of one request for one call, and would wait for ever to send the others.
                return await Context().run(call, *arguments)
            except InputRefused as error:
                # Ray adds the remote traceback to the text; its cause is the error as it was raised.
                raise getattr(error, "cause", error) from None
            except BackPressureError as error:
                raise Busy("the reward model's queue is full: try again in a second") from error
            except (ActorDiedError, ActorUnavailableError) as error:
                if not left:
                    raise ModelError("the reward model's replicas died: look at their logs in Ray") from error
            except RayError as error:
                raise ModelError(f"the reward model did not answer: {reason(error)}") from error
        raise AssertionError("the last attempt returns or raises")


def _read(given: Input) -> list[int] | str:
    """What a replica reads of an input, for the router."""
    if isinstance(given, Truncated):
        return _read(given.whole)
    if isinstance(given, Text):
        return given.text
    if isinstance(given, Conversation):
        return "\n".join(map(str, (given.tools, *given.messages)))
    return given


def _beginning(given: Input) -> str:
    """What inputs of one episode have in common."""
    if isinstance(given, Truncated):
        return _beginning(given.whole)
    if isinstance(given, Text):
        return given.text[:_BEGINNING]
    if isinstance(given, Conversation):
        opening, _ = runs(given.messages)
        return str(opening)
    return repr(given[:_BEGINNING])


class ServedRewardModel:
    """A `RewardModel` over what `deployed` yields."""

    def __init__(self, scorers: ScoringService) -> None:
        self._scorers = scorers

    async def score(self, states: Sequence[State]) -> list[float]:
        """One raw value per state, -inf for one that exceeds the context. Raises ModelError without an answer."""
        return await self._scorers.rank([state.conversation() for state in states])


def connect_reward_model(scorers: ScoringService, engine: Engine, likelihood: float) -> RewardModel:
    """What test-time searches compare states by: the values that replicas of `engine` serve, asked for together, and
    `evaluate.likelihood`.
    """
    return WithLikelihood(BatchedRewardModel(ServedRewardModel(scorers), requests(engine)), likelihood)


@contextmanager
def deployed(config: Config, directory: storage.Location, http: bool) -> Iterator[ScoringService]:
    """Serve the reward model at the location `directory` on the connected cluster for the block, from when it is ready.

    Yields its scorers; with `http` the API listens on `serve.host` and `serve.port` as well. A run that is served
    already is updated: each replica takes requests until its successor is ready, so there must be room for one more.
    Whoever updated last ends the service. Raises ModelError when the directory holds no reward model or the engine
    does not start; the model that was served before stays then. Raises UserError when the cluster's Ray Serve listens
    elsewhere for others.
    """
    scorer = bound(config, directory)
    name = application(config)
    listen("serve", config.serve.host, config.serve.port, http)
    updates = name in serve.status().applications
    since = None
    try:
        try:
            serve.run(scorer, name=name, route_prefix="/" if http else None)
        except (RuntimeError, TimeoutError) as error:
            raise ModelError(f"the reward model in {directory} could not be served: {reason(error)}") from error
        since = serve.status().applications[name].last_deployed_time_s
        with closing(scorers_of(name, _several(config.reward_engine))) as scorers:
            yield scorers
    finally:
        # A job may also be stopped before `since` is known: replicas answer before `serve.run` returns.
        served = serve.status().applications.get(name)
        if served and (not updates if since is None else served.last_deployed_time_s == since):
            serve.delete(name)


def listen(group: str, host: str, port: int, http: bool = True) -> None:
    """Start Ray Serve unless it runs. It listens where it did when it was started, so one without HTTP, or with it
    elsewhere, is started anew if it serves nothing. Raises UserError, which names the `group` of keys, if it does.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)

    def start() -> None:
        options = {"host": host, "port": port}
        try:
            serve.start(proxy_location="HeadOnly" if http else "Disabled", http_options=options)
        except (TimeoutError, RayError) as error:
            raise ModelError(f"Ray Serve did not start: {reason(error)} Try the same command again") from error

    start()
    # Serve's public functions do not say where it listens.
    there, status = _get_global_client().http_config, serve.status()
    if not http or (status.proxies and (there.host, there.port) == (host, port)):
        return
    if status.applications:
        listens, change = "without HTTP", ""
        if status.proxies:
            listens, change = f"at {there.host}:{there.port}", f", or set {group}.host and {group}.port to that"
        raise UserError(
            f"cannot listen on {host}:{port}: this cluster's Ray Serve runs {listens} for "
            f"{', '.join(status.applications)}; wait until that has ended{change}"
        )
    serve.shutdown()
    start()


def bound(config: Config, directory: storage.Location) -> serve.Application:
    """The reward model at the location `directory`, for whoever starts Serve. Raises ModelError when there is none."""
    check(storage.fetch(directory), config.serve.label)
    engine, addressed = config.reward_engine, can_address(config.reward_engine)
    return serve.deployment(
        ScoringReplica,
        name=_DEPLOYMENT,
        max_ongoing_requests=_ONGOING,
        max_queued_requests=_ONGOING,
        max_surge_percent=_SURGE_PERCENT,
        **({"request_router_config": RequestRouterConfig(request_router_class=Addressed)} if addressed else {}),
        **replica_options(config, engine, _BUSY),
    ).bind(str(directory), engine, config.model.context, config.serve, model_name(config), uuid4().hex, addressed)


def replica_options(config: Config, engine: Engine, busy: int) -> dict[str, Any]:
    """How many replicas of an engine Serve runs, and on what; one is added when each has more than `busy` requests."""
    options: dict[str, Any] = {"ray_actor_options": actor_options(config, Role.rollouts, engine.gpus)}
    if engine.max_replicas is None or engine.max_replicas <= engine.replicas:
        return options | {"num_replicas": engine.replicas}
    least, most = engine.replicas, engine.max_replicas
    scaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": busy}
    return options | {"autoscaling_config": scaling}


def can_address(engine: Engine) -> bool:
    """Whether there may be several replicas whose calls Serve sends where they are addressed. A process with HAProxy
    may not ask for that, as requests over HTTP pass Serve's router by: there any replica that has room takes a call.
    """
    return _several(engine) and not RAY_SERVE_ENABLE_HA_PROXY


def _several(engine: Engine) -> bool:
    return max(engine.replicas, engine.max_replicas or 0) > 1


def scorers_of(name: str, several: bool) -> ScoringService:
    """The replicas of the application `name`; `several`: there may be more than one whose calls can be addressed."""
    # Serve keeps one handle for each name, which would go on as it did for a service before an update, or be closed.
    return ScoringService(DeploymentHandle(_DEPLOYMENT, name), several)


def model_name(config: Config) -> str:
    """The name of a run's reward model in the API."""
    return f"agentrm-{storage.name(config.run)}"


def application(config: Config) -> str:
    """The name of a run's Serve application: the model's, if Serve can make names of actors, files, metrics and
    HAProxy's backends of it.
    """
    name = model_name(config)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST_NAME]
    return name if name == plain else f"{plain}-{blake2b(name.encode(), digest_size=8).hexdigest()}"

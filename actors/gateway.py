"""The gateway on Ray Serve: a deployment that answers over HTTP, with a handle to the reward model beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from fastapi import FastAPI
from ray import serve

from actors.serving import application, can_address, deployed, listen, scorers_of
from agentrm import storage
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import MOST_QUEUED, Config, Gateway
from agentrm.core.errors import ModelError, UserError, reason
from agentrm.service.gateway.api import create_app


@serve.ingress()
class GatewayReplica:
    """The gateway, beside the application `scorer` whose replicas' calls can be `addressed` or not."""

    def __init__(self, settings: Gateway, scorer: str, addressed: bool) -> None:
        self._settings = settings
        self._scorer = scorer, addressed

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(scorers_of(*self._scorer).rank, self._settings)


@contextmanager
def gateway(config: Config, directory: storage.Location) -> Iterator[Callable[[storage.Location], None]]:
    """Serve the reward model at the location `directory`, and the gateway in front of `gateway.upstream`, on the
    connected cluster for the block, from when they are ready. Over HTTP the gateway alone answers, on `gateway.host`
    and `gateway.port`. Yields what puts the reward model at another location in the place of the one that serves,
    without a lost request; it raises ModelError where that one stays. Raises as `actors.serving.deployed` does, and
    UserError when the run is served there already.
    """
    settings, scorer = config.gateway, application(config)
    name = f"{scorer}-gateway"
    listen("gateway", settings.host, settings.port)
    if running := {scorer, name} & set(serve.status().applications):
        raise UserError(
            f"this cluster serves {', '.join(sorted(running))} already: end that first, or name another run"
        )
    with ExitStack() as models:

        def replace(better: storage.Location) -> None:
            models.enter_context(deployed(config, better, http=False))

        replace(directory)
        replica = serve.deployment(
            GatewayReplica,
            ray_actor_options=actor_options(config, Role.rollouts, 0),
            max_ongoing_requests=2 * MOST_QUEUED,
        ).bind(settings, scorer, can_address(config.reward_engine))
        try:
            serve.run(replica, name=name, route_prefix="/")
        except (RuntimeError, TimeoutError) as error:
            raise ModelError(f"the gateway could not be started: {reason(error)}") from error
        try:
            yield replace
        finally:
            serve.delete(name)

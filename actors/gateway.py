"""The gateway on Ray Serve: a deployment that answers over HTTP, with a handle to the reward model beside it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace as changed

from fastapi import FastAPI
from ray import serve

from actors.policy_server import PREFIX, policy_server
from actors.serving import application, can_address, deployed, listen, scorers_of
from agentrm import storage
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import MOST_QUEUED, Config, Gateway
from agentrm.core.errors import ModelError, UserError, reason
from agentrm.service.gateway.api import KEY_VARIABLE, create_app

# It asks for no core, so that it has room on a head node that is to do no work.
_BESIDE_PROXY = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@serve.ingress()
class GatewayReplica:
    """The gateway, beside the application `scorer` whose replicas' calls can be `addressed` or not."""

    def __init__(self, settings: Gateway, scorer: str, addressed: bool) -> None:
        self._settings = settings
        self._scorer = scorer, addressed

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(scorers_of(*self._scorer).rank, self._settings)


@contextmanager
def gateway(
    config: Config, directory: storage.Location, policy: storage.Location = ""
) -> Iterator[Callable[[storage.Location], None]]:
    """Serve the reward model at the location `directory`, and the gateway in front of `gateway.upstream`, or of vLLM's
    own server of the `policy` at a location, on the connected cluster for the block, from when they are ready. Over
    HTTP the gateway answers on `gateway.host` and `gateway.port`, and that server at `policy_server.PREFIX` there, with
    a key of its own where the gateway has one. Yields what puts the reward model at another location in the place of
    the one that serves, without a lost request; it raises ModelError where that one stays. Raises as
    `actors.serving.deployed` does, and UserError when the run is served there already.
    """
    settings, scorer = config.gateway, application(config)
    name, own = f"{scorer}-gateway", f"{scorer}-policy"
    listen("gateway", settings.host, settings.port)
    if running := {scorer, name, own} & set(serve.status().applications):
        raise UserError(
            f"this cluster serves {', '.join(sorted(running))} already: end that first, or name another run"
        )
    with ExitStack() as served:

        def replace(better: storage.Location) -> None:
            served.enter_context(deployed(config, better, http=False))

        replace(directory)
        options = actor_options(config, Role.rollouts, 0)
        if policy:
            key = secrets.token_hex() if settings.api_key else ""
            served.enter_context(policy_server(config, policy, own, key))
            settings = changed(settings, upstream=_local(settings) + f"{PREFIX}/v1")
            options = {**_BESIDE_PROXY, "runtime_env": {"env_vars": {KEY_VARIABLE: key}}}
        replica = serve.deployment(
            GatewayReplica, ray_actor_options=options, max_ongoing_requests=2 * MOST_QUEUED
        ).bind(settings, scorer, can_address(config.reward_engine))
        try:
            serve.run(replica, name=name, route_prefix="/")
        except (RuntimeError, TimeoutError) as error:
            raise ModelError(f"the gateway could not be started: {reason(error)}") from error
        try:
            yield replace
        finally:
            serve.delete(name)


def _local(settings: Gateway) -> str:
    """Where the gateway's own node reaches what Ray Serve has on its host and port."""
    return changed(settings, host=_LOOPBACK.get(settings.host, settings.host)).url

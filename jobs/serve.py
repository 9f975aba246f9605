"""Serve a run's reward model, or the one in `serve.model`, over HTTP until Ctrl-C, or until the job is stopped.

    ray job submit -- python -m jobs.serve --preset quickstart serve.port=8000
    serve run jobs.serve:application preset=quickstart run=runs/quickstart

On a cluster that serves the run already the first updates it in place, without a failed request, and takes it over. It
also takes up what `agentrm improve` makes of the run's model.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from ray import serve

from actors.serving import bound, deployed
from agentrm import storage
from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.config.values import is_text, type_of
from agentrm.core.errors import AgentRMError, ModelError, UserError
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main

_LOOK_S = 5.0


def run(config: Config) -> None:
    """Deploy the reward model and block. Raises UserError when there is none yet or the address is taken."""
    directory = reward_model(config)
    if not (config.cluster.address or os.environ.get("RAY_ADDRESS")):
        check_port("serve", config.serve.host, config.serve.port)
    with cluster(config), ExitStack() as models:
        models.enter_context(deployed(config, directory, http=True))
        print(_usage(config), flush=True)
        follow(config, directory, lambda better: models.enter_context(deployed(config, better, http=True)))


def application(arguments: dict[str, str]) -> serve.Application:
    """The same as an application of Ray Serve's own configuration, which then says where it listens: `preset`, and keys
    with their values. Where others can reach it give `serve.host` and `serve.api_key`. Raises as `load` and `run` do.
    """
    given = dict(arguments)
    preset = given.pop("preset", "quickstart")
    for key, value in given.items():
        if is_text(type_of(key)) and not isinstance(value, str):
            raise UserError(f"the argument {key} is {value!r}, no text as YAML has it: write it in quotes")
    config = load(preset, [f"{key}={value}" for key, value in given.items()])
    return bound(config, reward_model(config))


def reward_model(config: Config) -> str:
    """Where the reward model is that is to be served. Raises UserError when there is none yet."""
    if config.serve.model:
        return storage.absolute(config.serve.model)
    return RunDirectory.open(config).in_service()


def follow(config: Config, present: str, replace: Callable[[str], object]) -> None:
    """Block until Ctrl-C. Where `agentrm improve` has made a better model than the `present` one, `replace` is to serve
    it; one that cannot be served leaves the other in its place.
    """
    waiting, directory = threading.Event(), RunDirectory(config.run, config)
    try:
        while not waiting.wait(_LOOK_S):
            better = present
            # What cannot be read now is read a little later.
            with suppress(OSError, AgentRMError):
                better = present if config.serve.model else directory.in_service()
            if better == present:
                continue
            present = better
            try:
                replace(better)
                print(f"{better} is in service", flush=True)
            except ModelError as error:
                print(f"{better} is not: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopping")


def _usage(config: Config) -> str:
    url = config.serve.url
    key = " -H 'Authorization: Bearer <serve.api_key>'" if config.serve.api_key else ""
    turns = (("user", "Your task: ..."), ("assistant", "Action: ..."), ("user", "what the environment answered"))
    body = json.dumps({"conversations": [[{"role": role, "content": content} for role, content in turns]]})
    return (
        f"scoring at {url}/v1/score until Ctrl-C; try\n"
        f"  curl {url}/v1/score{key} -H 'Content-Type: application/json' -d '{body}'"
    )


def check_port(group: str, host: str, port: int) -> None:
    """Raise UserError, which names the `group` of keys, when the address is taken or not of this machine."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise UserError(f"cannot listen on {host}:{port} ({reason}): set {group}.host or {group}.port") from error


if __name__ == "__main__":
    main(run)

"""Serve a run's reward model, or the one in `serve.model`, over HTTP until Ctrl-C, or until the job is stopped.

    ray job submit -- python -m jobs.serve --preset quickstart serve.port=8000
    serve run jobs.serve:application preset=quickstart run=runs/quickstart

On a cluster that serves the run already the first updates it in place, without a failed request, and takes it over.
"""

from __future__ import annotations

import json
import os
import socket
import threading

from ray import serve

from actors.serving import bound, deployed
from agentrm import storage
from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.config.values import is_text, type_of
from agentrm.core.errors import UserError
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main


def run(config: Config) -> None:
    """Deploy the reward model and block. Raises UserError when there is none yet or the address is taken."""
    directory = reward_model(config)
    if not (config.cluster.address or os.environ.get("RAY_ADDRESS")):
        check_port("serve", config.serve.host, config.serve.port)
    with cluster(config), deployed(config, directory, http=True):
        print(_usage(config), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping")


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
    return RunDirectory.open(config).require("reward_model", "train")


def address(host: str, port: int) -> str:
    """The URL of a server."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _usage(config: Config) -> str:
    url = address(config.serve.host, config.serve.port)
    key = " -H 'Authorization: Bearer <serve.api_key>'" if config.serve.api_key else ""
    turns = (("user", "Your task: ..."), ("assistant", "Action: ..."), ("user", "what the environment answered"))
    body = json.dumps({"conversations": [[{"role": role, "content": content} for role, content in turns]]})
    return (
        f"scoring at {url}/v1/score until Ctrl-C: states, which end with the environment's turn; try\n"
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

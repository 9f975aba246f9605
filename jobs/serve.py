"""Serve a run's reward model, or the one in `serve.model`, over HTTP until Ctrl-C.

    ray job submit -- python -m jobs.serve --preset quickstart serve.port=8000

On a cluster that serves the run already this updates it in place, without a failed request, and takes it over.
"""

from __future__ import annotations

import os
import socket
import threading

from actors.serving import deployed
from agentrm import storage
from agentrm.config.schema import Config
from agentrm.errors import UserError
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main


def run(config: Config) -> None:
    """Deploy the reward model and block. Raises UserError when there is none yet or the port is taken."""
    run = RunDirectory.open(config)
    directory = storage.absolute(config.serve.model) if config.serve.model else run.require("reward_model", "train")
    if not (config.cluster.address or os.environ.get("RAY_ADDRESS")):
        _check_port(config.serve.host, config.serve.port)
    with cluster(config), deployed(config, directory, http=True):
        print(_usage(config), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping")


def _usage(config: Config) -> str:
    host = f"[{config.serve.host}]" if ":" in config.serve.host else config.serve.host
    url = f"http://{host}:{config.serve.port}"
    key = " -H 'Authorization: Bearer <serve.api_key>'" if config.serve.api_key else ""
    body = '{"conversations": [[{"role": "user", "content": "Your task: ..."}]]}'
    return (
        f"scoring at {url}/v1/score until Ctrl-C; try\n"
        f"  curl {url}/v1/score{key} -H 'Content-Type: application/json' -d '{body}'"
    )


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise UserError(f"cannot listen on {host}:{port} ({reason}): set serve.host or serve.port") from error


if __name__ == "__main__":
    main(run)

"""Servers of tests, on ports of their own."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import uvicorn
from fastapi import FastAPI

# Below those that Linux gives to connections, one of which would take it before it is used, and above those that
# `ray start` gives to workers.
_PORTS = range(20_000, 30_000)


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on: all are held until the last is found."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = secrets.choice(_PORTS)
            with suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    return free_ports(1)[0]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address at which `app` answers for the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def s3() -> Iterator[str]:
    """The URI of a bucket on a server that speaks S3; this process and those that it starts find it by variables."""
    # vLLM will not start in a process that has loaded its web framework.
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        boto3.client("s3").create_bucket(Bucket="agentrm-tests")
        try:
            yield "s3://agentrm-tests"
        finally:
            server.stop()

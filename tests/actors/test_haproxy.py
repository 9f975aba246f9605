"""HAProxy's configuration, as the installed Ray writes it, without the pages that face every network."""

from __future__ import annotations

import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

from actors.haproxy import closed
from tests.servers import free_port

CONFIGURATION = """
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend prometheus
    bind *:9101
listen stats
    bind *:8404
frontend http_frontend
    bind 127.0.0.1:{port}
"""
STARTS = "import subprocess, sys; subprocess.run(sys.argv[1:])"


def test_the_pages_of_the_installed_ray_are_left_out() -> None:
    binds = [line.strip() for line in closed(HAPROXY_CONFIG_TEMPLATE).splitlines() if line.strip().startswith("bind ")]
    assert binds
    assert all("frontend_host" in bind for bind in binds)


def test_another_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="found 0 of its 2 pages"):
        closed("global\n    maxconn 4096\n")


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(port=port))
    command = [Path(sysconfig.get_path("scripts"), "agentrm-haproxy"), "-db", "-f", file]
    with subprocess.Popen([sys.executable, "-c", STARTS, *command]) as parent:
        while not _listens(port):
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    while _listens(port):
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True

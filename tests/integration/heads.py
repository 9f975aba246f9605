"""Ray heads that a test starts by command: `ray stop` would end every Ray of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil


@contextmanager
def home() -> Iterator[Path]:
    """A --temp-dir for a head, whose processes end with the block."""
    # Unix sockets lie there, whose paths must be short.
    with TemporaryDirectory(prefix="agentrm-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        try:
            yield Path(directory)
        finally:
            _end(directory)


def _end(home: str) -> None:
    """Kill the processes of the head whose --temp-dir is `home`, and what they started."""
    found = [each for each in psutil.process_iter(["cmdline"]) if home in " ".join(each.info["cmdline"] or [])]
    for process in [*found, *(child for each in found for child in each.children(recursive=True))]:
        if process.pid != os.getpid() and process.is_running():
            process.kill()

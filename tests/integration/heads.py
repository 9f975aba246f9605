"""Ray heads that a test starts by command: `ray stop` would end every Ray of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def end(home: Path) -> None:
    """Kill the processes of the head whose --temp-dir is `home`, and what they started."""
    found = [each for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or [])]
    for process in [*found, *(child for each in found for child in each.children(recursive=True))]:
        if process.pid != os.getpid() and process.is_running():
            process.kill()

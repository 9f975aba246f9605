"""Serves the viewer on this machine until Ctrl-C."""

from __future__ import annotations

import os
import socket
import webbrowser
from pathlib import Path

import uvicorn

from agentrm.core.errors import UserError
from agentrm.run import RunDirectory
from agentrm.view.app import create_app

_HOST = "127.0.0.1"


def view(run: str, port: int, opens: bool, model: str = "", values: Path | None = None, recorded: str = "") -> None:
    """Serve the run at a location to localhost (port 0: any free one) and, if it `opens`, show it in the browser. It is
    never served to others: a run holds whatever its environments and models wrote. `model`, `values` and `recorded` as
    in `create_app`. Raises UserError as that does, for no run and a taken port.
    """
    app = create_app(RunDirectory.existing(run), model, values, recorded)
    with _listen(port) as listening:
        url = f"http://{_HOST}:{listening.getsockname()[1]}"
        print(f"{run} at {url} until Ctrl-C", flush=True)
        # Without a display a text browser would take over this terminal.
        if opens and os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
            webbrowser.open(url)
        try:
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
        except KeyboardInterrupt:
            print("stopping")


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        raise UserError(f"cannot listen on {_HOST}:{port} ({error.strerror}): choose another --port") from error

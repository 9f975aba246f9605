"""Environments behind an OpenEnv server (https://github.com/meta-pytorch/OpenEnv).

    class Echo(OpenEnvEnvironment):
        name = "echo"
        url = "http://127.0.0.1:8000"
        max_steps = 10
        instruction = "Say what you are told to say."
        observation_field = "echoed_message"

Spoken is the contract of openenv-core 0.3: JSON messages `reset`, `step` and `close` over the server's WebSocket
`/ws`, where a connection is a session. Its HTTP routes `/reset` and `/step` make a new environment at every call, so
an episode cannot be played over them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.environments.adapters.adapted import AdaptedEnvironment, Answer
from agentrm.environments.support import engine_import

if TYPE_CHECKING:
    from websockets.sync.connection import Connection

MAX_MESSAGE_BYTES = 100 * 2**20
CLOSE_TIMEOUT_S = 2.0


class OpenEnvEnvironment(AdaptedEnvironment):
    """`levels` holds, by kind, what is given to the server's `reset` besides the seed.

    The agent's text is the action's field `action_field`, what it reads the observation's field `observation_field`;
    other shapes need an own `payload` or `text`. An action that the server's schema refuses is answered with the
    server's words. A server that is not there, fails or takes more than `timeout_s` raises EnvironmentFailure, and
    the next reset connects anew. `max_live` must not exceed the sessions that the server allows one process.

    The server must draw the same episode for the same seed; a state is had again by replay.
    """

    engine: ClassVar[str] = "an OpenEnv server"
    licence: ClassVar[str] = "that of the environment"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    kinds: ClassVar[tuple[str, ...]] = ("default",)
    max_live: ClassVar[int | None] = 1
    url: ClassVar[str]
    action_field: ClassVar[str] = "message"
    observation_field: ClassVar[str] = "message"
    timeout_s: ClassVar[float] = 20.0
    """Less than `hosts.deadline_s`, so that a slow server costs its own session alone."""

    def __init__(self) -> None:
        super().__init__()
        with engine_import("OpenEnv", "openenv"):
            import websockets.sync.client
        self._connect = websockets.sync.client.connect
        self._errors = (OSError, websockets.WebSocketException, ValueError)
        self._closed = websockets.ConnectionClosed
        self._exits = ExitStack()
        self._connection: Connection | None = None
        self._open()

    def text(self, observation: Mapping[str, Any]) -> str:
        """What the agent reads of an observation."""
        text = observation.get(self.observation_field)
        if not isinstance(text, str):
            raise UserError(
                f"{self.name} observes no text in {self.observation_field!r} but has {', '.join(observation)}: "
                "give its class another `observation_field`, or a `text`"
            )
        return text

    def payload(self, action: str) -> dict[str, Any]:
        """The server's action for any text at all."""
        return {self.action_field: action}

    def close(self) -> None:
        if self._connection is not None:
            with suppress(*self._errors):
                self._connection.send(json.dumps({"type": "close"}))
                # The server ends the connection after it has freed the session, which another may be waiting for.
                self._connection.recv(CLOSE_TIMEOUT_S)
        self._drop()

    def _start(self, level: Mapping[str, Any], seed: int) -> Answer:
        self._open()
        reply = self._ask("reset", {**level, "seed": seed})
        if reply["type"] == "error":
            raise self._failure(f"refused reset: {reply['data'].get('message')}")
        return self._answer(reply)

    def _execute(self, action: str) -> Answer:
        # A lone surrogate is no JSON text for the server.
        reply = self._ask("step", self.payload(action.encode(errors="replace").decode()))
        if reply["type"] != "error":
            return self._answer(reply)
        if reply["data"].get("code") != "VALIDATION_ERROR":
            raise self._failure(f"failed in a step: {reply['data'].get('message')}")
        reasons = [str(error.get("msg")) for error in reply["data"].get("errors", ())]
        return Answer("; ".join(reasons) or str(reply["data"].get("message")))

    def _open(self) -> None:
        if self._connection is None:
            address = f"{self.url.rstrip('/').replace('http', 'ws', 1)}/ws"
            options: dict[str, Any] = {"open_timeout": self.timeout_s, "close_timeout": CLOSE_TIMEOUT_S}
            try:
                connecting = self._connect(address, max_size=MAX_MESSAGE_BYTES, **options)
                self._connection = self._exits.enter_context(connecting)
            except self._errors as error:
                raise self._failure(f"does not answer ({error}): start it, or give its class another `url`") from error

    def _drop(self) -> None:
        self._connection = None
        self._exits.close()

    def _ask(self, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The server's reply to one message, which has a type and data."""
        assert self._connection is not None, "reset(task) comes first"
        try:
            # A server that refuses the session says why before it ends the connection.
            with suppress(self._closed):
                self._connection.send(json.dumps({"type": kind, "data": data}))
            reply = json.loads(self._connection.recv(self.timeout_s))
        except TimeoutError as error:
            raise self._failure(f"did not answer within {self.timeout_s:g} s") from error
        except self._errors as error:
            raise self._failure(f"broke off: {error}") from error
        if not (isinstance(reply, dict) and isinstance(reply.get("data"), dict) and "type" in reply):
            raise self._failure("answered in another form than OpenEnv's")
        return reply

    def _answer(self, reply: dict[str, Any]) -> Answer:
        data = reply["data"]
        if not isinstance(data.get("observation"), dict):
            raise self._failure("answered in another form than OpenEnv's")
        return Answer(self.text(data["observation"]), float(data.get("reward") or 0), bool(data.get("done")))

    def _failure(self, reason: str) -> EnvironmentFailure:
        """The error to raise; a late answer must not be read as that to a later question, so the connection goes."""
        self._drop()
        return EnvironmentFailure(f"{self.name}: the OpenEnv server {self.url} {reason}")

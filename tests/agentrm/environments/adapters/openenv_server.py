"""A small OpenEnv server: find a number. With `openenv-core` it is the real server, else one with the same contract.

python openenv_server.py openenv|contract PORT_FILE
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_SESSIONS = 2


class Game:
    """Reward 1 for the number; some words make the server slow, fail or die."""

    def start(self, seed: int, highest: int) -> dict:
        self.secret, self.seed = random.Random(seed).randint(1, highest), seed
        return {"echoed": f"number from 1 to {highest}", "done": False, "reward": None}

    def say(self, message: str) -> dict:
        if message == "sleep":
            time.sleep(3)
        if message == "raise":
            raise RuntimeError("out of order")
        if message == "die":
            os._exit(1)
        if not message.isdigit():
            return {"echoed": f"{message[:20]} is no number", "done": False, "reward": 0.0}
        right = int(message) == self.secret
        told = "right" if right else "more" if int(message) < self.secret else "less"
        return {"echoed": told, "done": right, "reward": float(right)}


def real_app() -> FastAPI:
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

    class Say(Action):
        message: str = Field(max_length=1000)

    class Heard(Observation):
        echoed: str

    class GameEnvironment(Environment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self.game = Game()

        def reset(self, seed: int | None = None, episode_id: str | None = None, highest: int = 9) -> Heard:
            return Heard(**self.game.start(seed or 0, highest))

        def step(self, action: Say, timeout_s: float | None = None) -> Heard:
            return Heard(**self.game.say(action.message))

        @property
        def state(self) -> State:
            return State()

    return create_fastapi_app(GameEnvironment, Say, Heard, max_concurrent_envs=MAX_SESSIONS)


def contract_app() -> FastAPI:
    class Say(BaseModel):
        model_config = ConfigDict(extra="forbid")
        message: str = Field(max_length=1000)

    app = FastAPI()
    live: list[Game] = []

    def heard(answer: dict) -> dict:
        data = {"observation": {"echoed": answer["echoed"]}, "reward": answer["reward"], "done": answer["done"]}
        return {"type": "observation", "data": data}

    def failed(code: str, message: str, **details: object) -> dict:
        return {"type": "error", "data": {"message": message, "code": code, **details}}

    @app.websocket("/ws")
    async def session(websocket: WebSocket) -> None:
        await websocket.accept()
        if len(live) >= MAX_SESSIONS:
            await websocket.send_json(failed("CAPACITY_REACHED", "the server is at capacity"))
            await websocket.close()
            return
        game = Game()
        live.append(game)
        try:
            while True:
                message = json.loads(await websocket.receive_text())
                try:
                    if message["type"] == "close":
                        break
                    if message["type"] == "reset":
                        arguments = {"seed": 0, "highest": 9} | message["data"]
                        reply = heard(game.start(arguments["seed"], arguments["highest"]))
                    else:
                        reply = heard(game.say(Say.model_validate(message["data"]).message))
                except ValidationError as error:
                    reply = failed("VALIDATION_ERROR", "Invalid message", errors=error.errors())
                except Exception as error:
                    reply = failed("EXECUTION_ERROR", str(error))
                await websocket.send_json(reply)
        except WebSocketDisconnect:
            pass
        finally:
            live.remove(game)
            with suppress(RuntimeError):
                await websocket.close()

    return app


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    app = real_app() if sys.argv[1] == "openenv" else contract_app()
    target = Path(sys.argv[2])
    target.with_suffix(".writing").write_text(str(listener.getsockname()[1]))
    target.with_suffix(".writing").rename(target)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])

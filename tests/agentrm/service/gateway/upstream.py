"""An endpoint over real HTTP that answers by a function of the test, and a gateway in front of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from agentrm.config.schema import Gateway
from agentrm.core.messages import Conversation, text_of
from agentrm.service.gateway.api import create_app
from agentrm.service.gateway.choose import Score
from tests.servers import serving

Body = dict[str, Any]
ASKED: Body = {"model": "m", "messages": [{"role": "user", "content": "go to the ball"}]}


def completion(*said: str | Body, tokens: int = 2) -> Body:
    """A completion with these messages, each of so many tokens."""
    choices = []
    for index, each in enumerate(said):
        message = each if isinstance(each, dict) else {"role": "assistant", "content": each}
        choices.append({"index": index, "message": message, "finish_reason": "stop", "logprobs": None})
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": tokens * len(said),
        "total_tokens": 5 + tokens * len(said),
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    return {"id": "c", "object": "chat.completion", "created": 7, "model": "m", "choices": choices, "usage": usage}


def events(*said: str) -> list[bytes]:
    """A streamed completion, a part for each piece of what is said."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    deltas: list[Body] = [{"role": "assistant", "content": ""}, *({"content": each} for each in said)]
    parts = [head | {"choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    parts.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [f"data: {json.dumps(each)}\n\n".encode() for each in parts] + [b"data: [DONE]\n\n"]


class Endpoint:
    """Answers by `respond`, which a test sets; keeps the bodies and the keys that it was sent."""

    def __init__(self) -> None:
        self.respond: Callable[[Body], Any] = lambda body: completion("look")
        self.requests: list[Body] = []
        self.keys: list[str | None] = []
        self.url = ""
        self.app = app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(body: dict[str, Any], request: Request) -> Any:
            self.requests.append(body)
            self.keys.append(request.headers.get("authorization"))
            found = self.respond(body)
            found = await found if isawaitable(found) else found
            # With JSON's escapes, as endpoints write half characters.
            return Response(json.dumps(found), media_type="application/json") if isinstance(found, dict) else found

        @app.get("/v1/models")
        async def models() -> Any:
            return {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "someone"}]}

    def gives(self, *said: str | Body) -> None:
        """From now on the next of these are the choices, as many as are asked for."""
        left = list(said)

        def respond(body: Body) -> Body:
            now, left[:] = left[: body.get("n", 1)], left[body.get("n", 1) :]
            return completion(*now)

        self.respond = respond


async def length(conversations: list[Conversation]) -> list[float]:
    """A reward model that likes many words."""
    return [float(len(text_of(each.messages[-1]))) for each in conversations]


@contextmanager
def gateway(endpoint: Endpoint, score: Score = length, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a gateway in front of the endpoint."""
    with (
        serving(create_app(score, Gateway(upstream=endpoint.url, **settings))) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


def ask(client: httpx.Client, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=ASKED | fields, headers=headers)


def texts(answer: httpx.Response) -> list[str]:
    """What the choices of an answer say."""
    assert answer.status_code == 200, answer.text
    return [each["message"]["content"] for each in answer.json()["choices"]]


def streamed(parts: list[bytes]) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return StreamingResponse(body(), media_type="text/event-stream")


def refusal(message: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": "theirs"}}, status, headers)

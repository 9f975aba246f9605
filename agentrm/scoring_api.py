"""The HTTP form of a reward model: `POST /v1/score`, whatever runs the model behind it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrm.config.schema import Serve
from agentrm.errors import AgentRMError, ContextOverflow
from agentrm.models.state import Message as Turn

# More text than this cannot fit the model's context in any language that its tokenizer was made for.
_BYTES_PER_TOKEN = 16
_RETRY_AFTER_S = 1


class ChatMessage(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant"]
    content: str


class ScoreRequest(BaseModel):
    """Conversations whose turns alternate, beginning with the user's."""

    model_config = ConfigDict(extra="forbid")

    conversations: Annotated[list[Annotated[list[ChatMessage], Field(min_length=1)]], Field(min_length=1)]

    @field_validator("conversations")
    @classmethod
    def _alternate(cls, conversations: list[list[ChatMessage]]) -> list[list[ChatMessage]]:
        for number, conversation in enumerate(conversations):
            for position, message in enumerate(conversation):
                if message.role != ("user", "assistant")[position % 2]:
                    raise ValueError(f"conversation {number}: roles must alternate, beginning with user")
        return conversations


class ScoreResponse(BaseModel):
    """Raw values (no sigmoid), one per conversation in the order of the request; higher is better."""

    model: str
    scores: list[float]


class Model(BaseModel):
    """A model that this server scores with; `context` in tokens."""

    id: str
    object: Literal["model"] = "model"
    context: int


class ModelList(BaseModel):
    """All models of this server."""

    object: Literal["list"] = "list"
    data: list[Model]


class Busy(AgentRMError):
    """The backend takes no more requests now."""


class _Guard:
    """Refuses requests without the key, then bodies that are too large, before anything of them is parsed."""

    def __init__(self, app: ASGIApp, api_key: str, max_bytes: int) -> None:
        self._app = app
        self._key = f"Bearer {api_key}".encode() if api_key else b""
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if self._key and scope["path"] != "/healthz":
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._key):
                refused = _error(401, "send the API key as `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"})
                return await refused(scope, receive, send)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            return await _error(413, self._limit())(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, self._limit())
            return message

        await self._app(scope, counted, send)

    def _limit(self) -> str:
        return f"the body is larger than {self._max_bytes} bytes: send fewer conversations at a time"


def create_app(
    score: Callable[[list[list[Turn]]], Awaitable[list[float]]],
    healthy: Callable[[], Awaitable[bool]],
    settings: Serve,
    model: str,
    context: int,
) -> FastAPI:
    """The application over `score`, which raises ContextOverflow for a conversation too long and Busy when it is full.

    Errors are JSON, `{"error": {"message", "field"}}`: 401 without the key, 413 for too much at once, 422 for a bad
    request, 429 with Retry-After when `settings.max_queued_requests` are waiting, 504 after `settings.deadline_s`.
    """
    app = FastAPI(title="AgentRM", docs_url=None, redoc_url=None)
    app.add_middleware(
        _Guard, api_key=settings.api_key, max_bytes=settings.max_conversations * context * _BYTES_PER_TOKEN
    )
    waiting = 0

    @app.post("/v1/score")
    async def score_conversations(request: ScoreRequest) -> ScoreResponse:
        nonlocal waiting
        number = len(request.conversations)
        if number > settings.max_conversations:
            raise HTTPException(
                413, f"{number} conversations are too many: send at most {settings.max_conversations} at a time"
            )
        if waiting >= settings.max_queued_requests:
            raise Busy(f"{waiting} requests are waiting: try again in {_RETRY_AFTER_S} s")
        waiting += 1
        try:
            async with asyncio.timeout(settings.deadline_s):
                scores = await score([[message.model_dump() for message in each] for each in request.conversations])
        except TimeoutError as error:
            raise HTTPException(
                504, f"no score within {settings.deadline_s:g} s: send fewer conversations at a time"
            ) from error
        finally:
            waiting -= 1
        return ScoreResponse(model=model, scores=scores)

    @app.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=[Model(id=model, context=context)])

    @app.get("/healthz")
    async def health() -> JSONResponse:
        return (
            JSONResponse({"status": "ok"}) if await healthy() else _error(503, "the reward model's engine has stopped")
        )

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> JSONResponse:
        return _error(429, str(error), {"Retry-After": str(_RETRY_AFTER_S)})

    @app.exception_handler(ContextOverflow)
    async def overflow(_: Request, error: ContextOverflow) -> JSONResponse:
        return _error(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != "body")
        return _error(422, first["msg"].removeprefix("Value error, "), field=field)

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

    return app


def _error(status: int, message: str, headers: dict[str, str] | None = None, field: str | None = None) -> JSONResponse:
    body: dict[str, Any] = {"message": message}
    if field:
        body["field"] = field
    return JSONResponse({"error": body}, status, headers)

"""What stands before an application over HTTP: the key and the size of a body; and the form of its refusals."""

from __future__ import annotations

import hmac
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrm.core.errors import InputRefused

# What says nothing of the model or its users, and is read by probes and browsers, which send no key.
_OPEN = frozenset({"/healthz", "/docs", "/openapi.json"})


class Guard:
    """Refuses requests without the key, then bodies that are too large, before anything of them is parsed."""

    def __init__(self, app: ASGIApp, api_key: str, max_bytes: int) -> None:
        self._app = app
        self._key = f"Bearer {api_key}".encode() if api_key else b""
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if self._key and scope["path"] not in _OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._key):
                refused = refusal(
                    401, "send the API key as `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"}
                )
                return await refused(scope, receive, send)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            return await refusal(413, self._limit())(scope, receive, send)
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
        return f"the body is larger than {self._max_bytes} bytes: send less at a time"


def answer_refusals(app: FastAPI, name: str) -> None:
    """Give what both applications refuse the form of `refusal`; `name` is what failed where nothing else is known."""

    @app.exception_handler(InputRefused)
    async def unreadable(_: Request, error: InputRefused) -> JSONResponse:
        return refusal(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != "body")
        return refusal(422, first["msg"].removeprefix("Value error, "), field=field)

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return refusal(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return refusal(500, f"the {name} failed: its log says where")


def refusal(status: int, message: str, headers: dict[str, str] | None = None, field: str | None = None) -> JSONResponse:
    """An answer in the form of `ErrorBody`; `field` is the part of the request that is at fault."""
    body: dict[str, Any] = {"message": message}
    if field:
        body["field"] = field
    return JSONResponse({"error": body}, status, headers)

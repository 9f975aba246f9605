"""The gateway over HTTP: OpenAI's chat completions, any endpoint behind them, the reward model beside it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import aiohttp
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from agentrm import __version__
from agentrm.config.schema import Gateway
from agentrm.core.errors import AgentRMError, UserError, reason
from agentrm.service.forms import ErrorBody, Health
from agentrm.service.gateway.choose import Chooser, Score
from agentrm.service.gateway.forms import (
    Asked,
    Body,
    Candidate,
    ChatRequest,
    Chosen,
    OutcomeRequest,
    Recorded,
    Streamed,
    event,
    session_of,
    summed,
    whole,
)
from agentrm.service.gateway.metrics import GatewayMetrics, Part
from agentrm.service.gateway.recording import Recorder
from agentrm.service.gateway.upstream import Answer, Upstream, UpstreamRefused
from agentrm.service.guard import Guard, answer_refusals
from agentrm.service.metrics import Measured

KEY_VARIABLE = "OPENAI_API_KEY"
"""Names the upstream's key, where callers send the gateway's own."""

_MOST_BYTES = 64 * 2**20
_RETRY_AFTER_S = 1
_HANDED_ON = ("openai-organization", "openai-project", "x-request-id")

_SUMMARY = """OpenAI's chat completions. Of several candidates for each turn, sampled from the endpoint behind it, the
reward model chooses: the answer's field `agentrm` says between what."""

_COMPLETION: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A completion, with the field `agentrm` where there was a choice; or its chunks",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    },
    400: {"model": ErrorBody, "description": "The body is no JSON, or the upstream refuses it"},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong"},
    413: {"model": ErrorBody, "description": "The body is too large"},
    422: {"model": ErrorBody, "description": "The request is malformed"},
    429: {"model": ErrorBody, "description": "Too many requests wait: try again after `Retry-After` seconds"},
    502: {"model": ErrorBody, "description": "The upstream does not answer"},
    504: {"model": ErrorBody, "description": "The upstream gave no answer in time"},
    "default": {"description": "Whatever else the upstream answers"},
}
_LISTED: dict[int | str, dict[str, Any]] = {
    **{status: about for status, about in _COMPLETION.items() if status in (401, 502, 504, "default")},
    200: {"content": {"application/json": {"schema": {"type": "object"}}}},
}
_KEPT: dict[int | str, dict[str, Any]] = {
    **{status: about for status, about in _COMPLETION.items() if status in (400, 401, 413, 422)},
    404: {"model": ErrorBody, "description": "Nothing is recorded, or nothing of this session"},
}
_EXPOSED: dict[int | str, dict[str, Any]] = {
    401: _COMPLETION[401],
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
}

_log = logging.getLogger(__name__)


class _Relayed(StreamingResponse):
    """A stream that lets `held` go when it ends, also where its client left before it began."""

    def __init__(
        self, parts: AsyncIterator[bytes], status: int, headers: Mapping[str, str], held: AsyncExitStack
    ) -> None:
        super().__init__(parts, status, headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


def create_app(score: Score, settings: Gateway) -> FastAPI:
    """The application over the endpoint `gateway.upstream`. What the upstream refuses is passed on as it came; where
    `score` fails, takes longer than `gateway.scoring_s` or cannot read a conversation, the first candidate is the
    answer, marked as degraded. The gateway's own errors are `{"error": {"message", "field"}}`.
    """
    metrics = GatewayMetrics()
    upstream = Upstream(settings.upstream, settings.deadline_s)
    chooser = Chooser(upstream, score, settings, metrics)
    recorder = Recorder(settings.record) if settings.record else None
    waiting = 0

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await upstream.close()

    app = FastAPI(
        title="AgentRM's gateway",
        version=__version__,
        description=_SUMMARY,
        docs_url="/docs",
        redoc_url=None,
        lifespan=lifespan,
    )
    # The guard refuses; this one only tells clients of the key.
    key = [Depends(HTTPBearer(auto_error=False))] if settings.api_key else []

    @asynccontextmanager
    async def place() -> AsyncIterator[None]:
        """One of those that may wait."""
        nonlocal waiting
        if waiting >= settings.max_queued_requests:
            told = f"{waiting} requests are waiting: try again in {_RETRY_AFTER_S} s"
            raise HTTPException(429, told, {"Retry-After": str(_RETRY_AFTER_S)})
        waiting += 1
        metrics.waiting.set(waiting)
        try:
            yield
        finally:
            waiting -= 1
            metrics.waiting.set(waiting)

    async def record(session: str, asked: Asked, chosen: Chosen) -> None:
        """Keep a turn. That it could not be kept is no reason to keep back an answer."""
        if recorder is None or not session:
            return
        started = time.perf_counter()
        try:
            await recorder.turn(session, asked.body, chosen)
        except (OSError, ValueError, AgentRMError) as error:
            metrics.unrecorded()
            _log.error("a turn of the session %s could not be recorded: %s", session, reason(error))
        finally:
            metrics.spent(Part.recording, time.perf_counter() - started)

    async def passed(asked: Asked, session: str, headers: dict[str, str]) -> Response:
        started = time.perf_counter()
        answer = await upstream.ask("POST", "/chat/completions", headers, asked.passed())
        metrics.spent(Part.upstream, time.perf_counter() - started)
        for choice in answer.choices()[:1]:
            body = answer.body()
            usage = summed([body["usage"]]) if isinstance(body.get("usage"), dict) else {}
            metrics.passed(whole(usage.get("completion_tokens")))
            await record(session, asked, Chosen(body, [Candidate(choice)], [None], [0], usage))
        return _response(answer)

    async def streamed(asked: Asked, session: str, headers: dict[str, str], held: AsyncExitStack) -> Response:
        """Whatever the upstream sends, as it comes; `held` is let go when that ends."""
        started = time.perf_counter()
        status, kept, parts = await held.enter_async_context(
            upstream.stream("POST", "/chat/completions", headers, asked.passed())
        )

        async def relayed() -> AsyncIterator[bytes]:
            seen = Streamed()
            try:
                async for part in parts:
                    seen.feed(part)
                    yield part
            except (aiohttp.ClientError, TimeoutError) as error:
                yield event({"error": {"message": f"the upstream's stream broke off: {reason(error)}"}})
                return
            finally:
                metrics.spent(Part.upstream, time.perf_counter() - started)
            if status == 200:
                metrics.passed(whole(seen.usage.get("completion_tokens")))
                said = Candidate({"index": 0, "message": seen.message})
                await record(session, asked, Chosen({}, [said], [None], [0], seen.usage))

        return _Relayed(relayed(), status, kept, held)

    @app.post("/v1/chat/completions", dependencies=key, responses=_COMPLETION, response_model=None)
    async def complete(
        request: Request,
        chat: ChatRequest,
        x_agentrm_k: Annotated[str | None, Header()] = None,
        x_agentrm_session: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The best of several candidates for the next turn of a conversation."""
        asked = Asked.of(chat, x_agentrm_k, settings)
        session, headers = session_of(x_agentrm_session), _handed_on(request, settings)
        async with AsyncExitStack() as held:
            await held.enter_async_context(place())
            if asked.alone and asked.stream:
                return await streamed(asked, session, headers, held.pop_all())
            if asked.alone:
                return await passed(asked, session, headers)
            try:
                chosen = await chooser.choose(asked, headers)
            except UpstreamRefused as refused:
                return _response(refused.answer)
            await record(session, asked, chosen)
            if asked.stream:
                chunks = list(chosen.chunks(asked.usage))
                return StreamingResponse(iter(chunks), 200, chosen.headers(), "text/event-stream")
            return _json(chosen.completion(), chosen.headers())

    @app.get("/v1/models", dependencies=key, responses=_LISTED, response_model=None)
    async def models(request: Request) -> Response:
        """The upstream's models, and each once more with the name that asks for the best of `gateway.k`."""
        answer = await upstream.ask("GET", "/models", _handed_on(request, settings))
        body = answer.body()
        if answer.status != 200 or not isinstance(body.get("data"), list):
            return _response(answer)
        named = [model for model in body["data"] if isinstance(model, dict) and isinstance(model.get("id"), str)]
        best = [model | {"id": f"{model['id']}@best-of-{settings.k}"} for model in named]
        return _json(body | {"data": [*body["data"], *best]})

    @app.post("/v1/outcomes", dependencies=key, responses=_KEPT)
    async def outcomes(given: OutcomeRequest) -> Recorded:
        """Say how a recorded session ended; the last word counts."""
        if recorder is None:
            raise HTTPException(404, "this gateway records nothing: start it with gateway.record=DIRECTORY")
        try:
            return Recorded(conversations=await recorder.outcome(given.session, given.outcome))
        except UserError as error:
            raise HTTPException(404, str(error)) from error

    @app.get("/healthz")
    async def health() -> Health:
        """For probes: the gateway runs."""
        return Health()

    @app.get("/metrics", dependencies=key, responses=_EXPOSED, response_class=Response)
    async def exposed() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    answer_refusals(app, "gateway")
    app.add_middleware(Guard, api_key=settings.api_key, max_bytes=_MOST_BYTES)
    app.add_middleware(Measured, metrics=metrics, paths=frozenset(app.openapi()["paths"]))
    return app


def _handed_on(request: Request, settings: Gateway) -> dict[str, str]:
    """Of a caller's headers, those that the upstream gets; the key is the caller's, or ours where callers send ours."""
    headers = {name: request.headers[name] for name in _HANDED_ON if name in request.headers}
    key = request.headers.get("authorization", "")
    if settings.api_key:
        key = f"Bearer {os.environ[KEY_VARIABLE]}" if os.environ.get(KEY_VARIABLE) else ""
    return headers | ({"authorization": key} if key else {})


def _json(body: Body, headers: dict[str, str] | None = None) -> Response:
    # Text of an upstream may hold half characters, which only JSON's escapes can name.
    return Response(json.dumps(body), 200, headers, "application/json")


def _response(answer: Answer) -> Response:
    return Response(answer.content, answer.status, dict(answer.headers))

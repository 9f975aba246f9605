"""The HTTP form of a reward model: `POST /v1/score` and the forms of other reward servers, whatever runs the model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from agentrm import __version__
from agentrm.config.schema import End, Serve
from agentrm.core.errors import AgentRMError, InputRefused, ModelError
from agentrm.evaluation.calibration import Calibration
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per
from agentrm.service.differences import Kept, UnknownBeginning
from agentrm.service.forms import (
    ClassifyRequest,
    ClassifyResponse,
    ErrorBody,
    Health,
    Model,
    ModelList,
    PoolingRequest,
    PoolingResponse,
    RewardRequest,
    RewardResponse,
    ScoreRequest,
    ScoreResponse,
)
from agentrm.service.guard import Guard, answer_refusals, refusal
from agentrm.service.metrics import Measured, Metrics

# More text than this cannot fit the model's context in any language that its tokenizer was made for.
_BYTES_PER_TOKEN = 16
_RETRY_AFTER_S = 1

_SUMMARY = """Raw scores of agents' conversations: higher is better, no sigmoid. One that ends with the environment's
answer, a `user` or `tool` turn, has the value of a state; the last answer of an episode ends with the line
`The episode has ended.` One that ends with the agent's turn has the value of an action that nobody has answered. The
answer's `at` says which of the two each score is, and `learned` in `/v1/models` at which of them the model has learned
values: elsewhere they mean nothing. Requests that begin alike are cheap: their common part is computed once."""

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body is no JSON"},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong"},
    409: {"model": ErrorBody, "description": "What a conversation comes `after` is not kept here: send it whole"},
    413: {"model": ErrorBody, "description": "Too much at once"},
    422: {"model": ErrorBody, "description": "The request is malformed, or longer than the model's context"},
    429: {"model": ErrorBody, "description": "The queue is full: try again after `Retry-After` seconds"},
    500: {"model": ErrorBody, "description": "The service failed"},
    503: {"model": ErrorBody, "description": "No replica answers now: try again after `Retry-After` seconds"},
    504: {"model": ErrorBody, "description": "No answer within the deadline"},
}
_REFUSED: dict[int | str, dict[str, Any]] = {401: _ERRORS[401]}
_EXPOSED: dict[int | str, dict[str, Any]] = _REFUSED | {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}
_DOWN: dict[int | str, dict[str, Any]] = {503: _ERRORS[503]}


class Busy(AgentRMError):
    """The backend takes no more requests now."""


def create_app(
    score: Callable[[list[Input], Per], Awaitable[Sequence[Reading]]],
    healthy: Callable[[], Awaitable[bool]],
    settings: Serve,
    model: str,
    context: int,
    labels: Sequence[str] = ("LABEL_0",),
    calibrations: Mapping[End, Calibration] = MappingProxyType({}),
    learned: Sequence[str] = (),
) -> FastAPI:
    """The application over `score`, which raises InputRefused for what the model cannot read and Busy when it is full.
    `labels` are the names of the model's, `calibrations` make probabilities of its values; `learned` are the ends of
    turns at which it learned them (none: it does not tell).

    Errors are JSON, `{"error": {"message", "field"}}`: 401 without the key, 409 for what is not kept, 413 for too much
    at once, 422 for a bad request, 429 with Retry-After when `settings.max_queued_requests` are waiting, 503 with it
    when no replica answers, 504 after `settings.deadline_s`.
    """
    app = FastAPI(title="AgentRM", version=__version__, description=_SUMMARY, docs_url="/docs", redoc_url=None)
    metrics, kept = Metrics(), Kept()
    waiting = 0
    # The guard refuses before anything is parsed; this one only tells clients of the key.
    key = [Depends(HTTPBearer(auto_error=False))] if settings.api_key else []

    async def scored(inputs: list[Input], per: Per = Per.input) -> Sequence[Reading]:
        nonlocal waiting
        if len(inputs) > settings.max_conversations:
            raise HTTPException(
                413, f"{len(inputs)} conversations are too many: send at most {settings.max_conversations} at a time"
            )
        if waiting >= settings.max_queued_requests:
            raise Busy(f"{waiting} requests are waiting: try again in {_RETRY_AFTER_S} s")
        waiting += 1
        metrics.waiting.set(waiting)
        try:
            async with asyncio.timeout(settings.deadline_s):
                scores = await score(inputs, per)
        except TimeoutError as error:
            raise HTTPException(
                504, f"no score within {settings.deadline_s:g} s: send fewer conversations at a time"
            ) from error
        finally:
            waiting -= 1
            metrics.waiting.set(waiting)
        if not all(isfinite(value) for reading in scores for value in reading.values):
            raise ModelError("the reward model gave a score that is no number: check its weights and dtype")
        metrics.scored(scores)
        return scores

    @app.post("/v1/score", dependencies=key, responses=_ERRORS, response_model_exclude_none=True)
    async def score_inputs(request: ScoreRequest) -> ScoreResponse:
        """Score conversations or token ids, which end with the environment's turn or the agent's: one value each, or
        one per step of the environment's turns.
        """
        request.complete(kept)
        needed = {end or End.state for end in request.ends()} if request.calibrated else set()
        missing = sorted(needed - set(calibrations))
        if missing:
            raise InputRefused(
                f"{model} has no calibration of {missing[0].value}s: leave calibrated out for raw values"
            )
        scores = await scored(request.inputs(), Per(request.per))
        return ScoreResponse.of(model, scores, request, calibrations, kept)

    @app.post("/classify", dependencies=key, responses=_ERRORS)
    async def classify(request: ClassifyRequest) -> ClassifyResponse:
        """Score in the form of vLLM's `/classify`, as verl and others send it."""
        return ClassifyResponse.of(model, await scored(request.inputs()), labels)

    @app.post("/pooling", dependencies=key, responses=_ERRORS)
    async def pooling(request: PoolingRequest) -> PoolingResponse:
        """Score in the form of vLLM's `/pooling`."""
        per_token = request.task == "token_classify"
        scores = await scored(request.inputs(), Per.token if per_token else Per.input)
        return PoolingResponse.of(model, scores, per_token)

    @app.post("/get_reward", dependencies=key, responses=_ERRORS)
    async def get_reward(request: RewardRequest) -> RewardResponse:
        """Score in the form of OpenRLHF's remote reward models."""
        return RewardResponse.of(await scored(request.inputs()))

    @app.get("/v1/models", dependencies=key, responses=_REFUSED)
    async def models() -> ModelList:
        """The model's name, its context, and where it has learned values."""
        return ModelList(data=[Model(id=model, context=context, learned=[End(end) for end in learned])])

    @app.get("/healthz", responses=_DOWN)
    async def health() -> Health:
        """For probes: whether an engine runs."""
        if not await healthy():
            raise ModelError("the reward model's engine has stopped")
        return Health()

    @app.get("/metrics", dependencies=key, responses=_EXPOSED, response_class=Response)
    async def exposed() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(UnknownBeginning)
    async def unknown(_: Request, error: UnknownBeginning) -> JSONResponse:
        return refusal(409, str(error))

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> JSONResponse:
        return refusal(429, str(error), {"Retry-After": str(_RETRY_AFTER_S)})

    @app.exception_handler(ModelError)
    async def unavailable(_: Request, error: ModelError) -> JSONResponse:
        return refusal(503, str(error), {"Retry-After": str(_RETRY_AFTER_S)})

    answer_refusals(app, "service")
    app.add_middleware(
        Guard, api_key=settings.api_key, max_bytes=settings.max_conversations * context * _BYTES_PER_TOKEN
    )
    app.add_middleware(Measured, metrics=metrics, paths=frozenset(app.openapi()["paths"]))
    return app

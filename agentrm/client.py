"""A client of the scoring service: typed, with time-outs and retries, for code with and without asyncio.

with ScoringClient("http://127.0.0.1:8000", api_key="...") as client:
    (score,) = client.score([[{"role": "user", "content": "Your task: ..."}]])
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from agentrm.errors import AgentRMError
from agentrm.models.state import Message
from agentrm.scoring_forms import ErrorBody, Model, ModelList, ScoreResponse

# A replica that dies or is replaced answers with these; scoring twice does no harm.
_RETRIED = frozenset({429, 500, 502, 503})
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 30.0

Body = TypeVar("Body", bound=BaseModel)


class ServiceError(AgentRMError):
    """The scoring service gave no scores. `status` is its answer's, or None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RequestRefused(ServiceError):
    """The request cannot be answered as it is: too large, malformed, or too long for the model."""


class KeyRefused(ServiceError):
    """The API key is missing or wrong."""


class ServiceBusy(ServiceError):
    """The queue was full, each time that it was tried."""


class ServiceUnavailable(ServiceError):
    """No answer came in time, or none that can be read, each time that it was tried."""


class _Requests:
    """What both clients share: the requests, which answers are tried again and when, and what an answer means."""

    def __init__(self, retries: int) -> None:
        self._retries = retries

    def waits(self) -> Iterator[float]:
        """Seconds before each retry, if the server names none: doubling, each with its own jitter."""
        for attempt in range(self._retries):
            yield min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)

    @staticmethod
    def wait(answer: httpx.Response | httpx.TransportError, wait: float) -> float | None:
        """Seconds until an answer's request is worth sending again; None for never."""
        if isinstance(answer, httpx.TransportError):
            return wait
        if answer.status_code not in _RETRIED:
            return None
        named = answer.headers.get("Retry-After", "")
        return max(wait, min(float(named), _LONGEST_WAIT_S)) if named.isdigit() else wait

    @staticmethod
    def read(answer: httpx.Response | httpx.TransportError, form: type[Body]) -> Body:
        """The last answer's body. Raises the ServiceError that its status stands for."""
        if isinstance(answer, httpx.TransportError):
            raise ServiceUnavailable(f"the scoring service does not answer: {answer!r}") from answer
        status = answer.status_code
        try:
            if answer.is_success:
                return form.model_validate_json(answer.content)
            message = ErrorBody.model_validate_json(answer.content).error.message
        except ValidationError as error:
            raise ServiceUnavailable(f"no scoring service answers there: status {status}", status) from error
        if status == 401:
            raise KeyRefused(message, status)
        if status == 429:
            raise ServiceBusy(message, status)
        raise (RequestRefused if status < 500 else ServiceUnavailable)(message, status)


def _headers(api_key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _conversations(conversations: Sequence[Sequence[Message]], per: str) -> dict[str, Any]:
    return {"conversations": [list(each) for each in conversations], "per": per}


def _ids(ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    return {"token_ids": [list(each) for each in ids]}


class ScoringClient:
    """Blocks until the answer is there. Raises ServiceError; `timeout_s` is for each try, of which there are
    `retries` after the first, all `Retry-After` kept.
    """

    def __init__(self, url: str, api_key: str = "", *, timeout_s: float = 60.0, retries: int = 3) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(api_key), timeout=timeout_s)
        self._requests = _Requests(retries)

    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """One raw value per conversation, whose turns alternate and begin with the user's."""
        return _flat(self._ask(ScoreResponse, "POST", "/v1/score", _conversations(conversations, "input")))

    def score_steps(self, conversations: Sequence[Sequence[Message]]) -> list[list[float]]:
        """One raw value after each user turn of each conversation."""
        return _nested(self._ask(ScoreResponse, "POST", "/v1/score", _conversations(conversations, "step")))

    def score_ids(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """One raw value per sequence of token ids."""
        return _flat(self._ask(ScoreResponse, "POST", "/v1/score", _ids(ids)))

    def models(self) -> list[Model]:
        """The models that the service scores with."""
        return self._ask(ModelList, "GET", "/v1/models").data

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> ScoringClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, form: type[Body], method: str, path: str, body: dict[str, Any] | None = None) -> Body:
        answer = self._try(method, path, body)
        for planned in self._requests.waits():
            if (wait := self._requests.wait(answer, planned)) is None:
                break
            time.sleep(wait)
            answer = self._try(method, path, body)
        return self._requests.read(answer, form)

    def _try(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            return error


class AsyncScoringClient:
    """`ScoringClient` for asyncio: the same calls, awaited."""

    def __init__(self, url: str, api_key: str = "", *, timeout_s: float = 60.0, retries: int = 3) -> None:
        # Connections are the caller's to bound: a request that waits for one runs into its time-out.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(api_key), timeout=timeout_s, limits=limits)
        self._requests = _Requests(retries)

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """See `ScoringClient`."""
        return _flat(await self._ask(ScoreResponse, "POST", "/v1/score", _conversations(conversations, "input")))

    async def score_steps(self, conversations: Sequence[Sequence[Message]]) -> list[list[float]]:
        """See `ScoringClient`."""
        return _nested(await self._ask(ScoreResponse, "POST", "/v1/score", _conversations(conversations, "step")))

    async def score_ids(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """See `ScoringClient`."""
        return _flat(await self._ask(ScoreResponse, "POST", "/v1/score", _ids(ids)))

    async def models(self) -> list[Model]:
        """See `ScoringClient`."""
        return (await self._ask(ModelList, "GET", "/v1/models")).data

    async def close(self) -> None:
        """See `ScoringClient`."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncScoringClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _ask(self, form: type[Body], method: str, path: str, body: dict[str, Any] | None = None) -> Body:
        answer = await self._try(method, path, body)
        for planned in self._requests.waits():
            if (wait := self._requests.wait(answer, planned)) is None:
                break
            await asyncio.sleep(wait)
            answer = await self._try(method, path, body)
        return self._requests.read(answer, form)

    async def _try(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            return error


def _flat(response: ScoreResponse) -> list[float]:
    return [value for value in response.scores if isinstance(value, float)]


def _nested(response: ScoreResponse) -> list[list[float]]:
    return [values for values in response.scores if isinstance(values, list)]

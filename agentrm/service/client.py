"""A client of the scoring service: typed, with time-outs and retries, for code with and without asyncio.

with ScoringClient("http://127.0.0.1:8000", api_key="...") as client:
    (score,) = client.score([[{"role": "user", "content": "Your task: ..."}]])

A conversation has the value of a state where it ends with the environment's turn, of an action where it ends with the
agent's. `models()` says at which of them values were learned; elsewhere they mean nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from pydantic import BaseModel, ValidationError

from agentrm.core.errors import AgentRMError, reason
from agentrm.core.messages import Conversation, Message
from agentrm.service.differences import Sent
from agentrm.service.forms import ErrorBody, Model, ModelList, ScoreResponse

# A replica that dies or is replaced answers with these; scoring twice does no harm.
_RETRIED = frozenset({429, 500, 502, 503})
_UNKNOWN = 409
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


class _Answer(NamedTuple):
    """An HTTP answer; `status` None for none, and `content` then says why."""

    status: int | None
    content: bytes
    retry_after: str = ""


class _Requests:
    """What both clients share: the requests, which answers are tried again and when, and what an answer means."""

    def __init__(self, retries: int, whole: bool) -> None:
        self._retries = retries
        self._sent = Sent(asks=not whole)

    def conversations(self, given: Sequence[Conversation], per: str, calibrated: bool) -> dict[str, Any]:
        """The body of a request for scores, without what the service keeps of earlier ones."""
        forms = [self._sent.form(conversation) for conversation in given]
        return {"conversations": forms, "per": per, "calibrated": calibrated, "keep": self._sent.asks}

    def scores(self, answer: _Answer, given: Sequence[Conversation], body: dict[str, Any]) -> ScoreResponse | None:
        """The answer to such a body; None where the service does not know a beginning: all bodies are whole from then
        on, for there are several replicas, or it is another service by now. Raises as `read`.
        """
        if answer.status == _UNKNOWN and body["keep"]:
            self._sent.give_up()
            return None
        response = self.read(answer, ScoreResponse)
        if response.kept is not None:
            self._sent.learn(given, response.kept)
        return response

    def waits(self) -> Iterator[float]:
        """Seconds before each retry, if the server names none: doubling, each with its own jitter."""
        for attempt in range(self._retries):
            yield min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)

    @staticmethod
    def wait(answer: _Answer, wait: float) -> float | None:
        """Seconds until an answer's request is worth sending again; None for never."""
        if answer.status is not None and answer.status not in _RETRIED:
            return None
        named = answer.retry_after
        return max(wait, min(float(named), _LONGEST_WAIT_S)) if named.isdigit() else wait

    @staticmethod
    def read(answer: _Answer, form: type[Body]) -> Body:
        """The last answer's body. Raises the ServiceError that its status stands for."""
        status = answer.status
        if status is None:
            raise ServiceUnavailable(f"the scoring service does not answer: {answer.content.decode()}")
        try:
            if 200 <= status < 300:
                return form.model_validate_json(answer.content)
            message = ErrorBody.model_validate_json(answer.content).error.message
        except ValidationError as error:
            raise ServiceUnavailable(f"no scoring service answers there: status {status}", status) from error
        if status == 401:
            raise KeyRefused(message, status)
        if status == 429:
            raise ServiceBusy(message, status)
        raise (RequestRefused if status < 500 else ServiceUnavailable)(message, status)


def _told(error: Exception) -> bytes:
    """What went wrong, without the request's headers, which some errors show and which hold the key."""
    return f"{type(error).__name__}: {reason(error)}".encode()


def _headers(api_key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _ids(ids: Sequence[Sequence[int]], calibrated: bool) -> dict[str, Any]:
    return {"token_ids": [list(sequence) for sequence in ids], "calibrated": calibrated}


class ScoringClient:
    """Blocks until the answer is there. Raises ServiceError; `timeout_s` is for each try, of which there are
    `retries` after the first, all `Retry-After` kept. Of a conversation that goes on only what is new is sent, unless
    it is to be `whole`; so it is from the first time that a service, or one of its replicas, does not know the rest.

    Values are raw; with `calibrated` they are probabilities of success in [0, 1], and RequestRefused is raised where
    the model has no calibration of values that are read there: see `agentrm.evaluation.calibration`.
    """

    def __init__(
        self, url: str, api_key: str = "", *, timeout_s: float = 60.0, retries: int = 3, whole: bool = False
    ) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(api_key), timeout=timeout_s)
        self._requests = _Requests(retries, whole)

    def score(
        self, conversations: Sequence[Conversation | Sequence[Message]], *, calibrated: bool = False
    ) -> list[float]:
        """One raw value per conversation: of the state after the environment's turn, or of the action that the agent's
        turn is, with whichever it ends. `calibrated`: probabilities of success, of a model that has a calibration.
        """
        return _flat(self._score(conversations, "input", calibrated))

    def score_steps(
        self, conversations: Sequence[Conversation | Sequence[Message]], *, calibrated: bool = False
    ) -> list[list[float]]:
        """Raw values of each conversation: after its opening, and whenever the agent's messages were answered."""
        return _nested(self._score(conversations, "step", calibrated))

    def score_ids(self, ids: Sequence[Sequence[int]], *, calibrated: bool = False) -> list[float]:
        """One raw value per sequence of token ids, which ends as a conversation does."""
        return _flat(self._ask(ScoreResponse, "POST", "/v1/score", _ids(ids, calibrated)))

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

    def _score(
        self, conversations: Sequence[Conversation | Sequence[Message]], per: str, calibrated: bool
    ) -> ScoreResponse:
        given = [Conversation.of(conversation) for conversation in conversations]
        while True:
            body = self._requests.conversations(given, per, calibrated)
            if (response := self._requests.scores(self._answer("POST", "/v1/score", body), given, body)) is not None:
                return response

    def _ask(self, form: type[Body], method: str, path: str, body: dict[str, Any] | None = None) -> Body:
        return self._requests.read(self._answer(method, path, body), form)

    def _answer(self, method: str, path: str, body: dict[str, Any] | None) -> _Answer:
        """The last one, after all retries."""
        answer = self._try(method, path, body)
        for planned in self._requests.waits():
            if (wait := self._requests.wait(answer, planned)) is None:
                break
            time.sleep(wait)
            answer = self._try(method, path, body)
        return answer

    def _try(self, method: str, path: str, body: dict[str, Any] | None) -> _Answer:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            return _Answer(None, _told(error))
        return _Answer(answer.status_code, answer.content, answer.headers.get("Retry-After", ""))


class AsyncScoringClient:
    """`ScoringClient` for asyncio: the same calls, awaited."""

    def __init__(
        self, url: str, api_key: str = "", *, timeout_s: float = 60.0, retries: int = 3, whole: bool = False
    ) -> None:
        self._url, self._headers = url.rstrip("/"), _headers(api_key)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._requests = _Requests(retries, whole)
        self._http: aiohttp.ClientSession | None = None

    async def score(
        self, conversations: Sequence[Conversation | Sequence[Message]], *, calibrated: bool = False
    ) -> list[float]:
        """See `ScoringClient`."""
        return _flat(await self._score(conversations, "input", calibrated))

    async def score_steps(
        self, conversations: Sequence[Conversation | Sequence[Message]], *, calibrated: bool = False
    ) -> list[list[float]]:
        """See `ScoringClient`."""
        return _nested(await self._score(conversations, "step", calibrated))

    async def score_ids(self, ids: Sequence[Sequence[int]], *, calibrated: bool = False) -> list[float]:
        """See `ScoringClient`."""
        return _flat(await self._ask(ScoreResponse, "POST", "/v1/score", _ids(ids, calibrated)))

    async def models(self) -> list[Model]:
        """See `ScoringClient`."""
        return (await self._ask(ModelList, "GET", "/v1/models")).data

    async def close(self) -> None:
        """See `ScoringClient`."""
        if self._http is not None:
            await self._http.close()

    async def __aenter__(self) -> AsyncScoringClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _score(
        self, conversations: Sequence[Conversation | Sequence[Message]], per: str, calibrated: bool
    ) -> ScoreResponse:
        given = [Conversation.of(conversation) for conversation in conversations]
        while True:
            body = self._requests.conversations(given, per, calibrated)
            if (
                response := self._requests.scores(await self._answer("POST", "/v1/score", body), given, body)
            ) is not None:
                return response

    async def _ask(self, form: type[Body], method: str, path: str, body: dict[str, Any] | None = None) -> Body:
        return self._requests.read(await self._answer(method, path, body), form)

    async def _answer(self, method: str, path: str, body: dict[str, Any] | None) -> _Answer:
        """The last one, after all retries."""
        answer = await self._try(method, path, body)
        for planned in self._requests.waits():
            if (wait := self._requests.wait(answer, planned)) is None:
                break
            await asyncio.sleep(wait)
            answer = await self._try(method, path, body)
        return answer

    async def _try(self, method: str, path: str, body: dict[str, Any] | None) -> _Answer:
        try:
            async with self._session().request(method, self._url + path, json=body, allow_redirects=False) as answer:
                return _Answer(answer.status, await answer.read(), answer.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError) as error:
            return _Answer(None, _told(error))

    def _session(self) -> aiohttp.ClientSession:
        # It belongs to the loop that runs, which there need not be before the first request. Why not httpx: its pool
        # looks at every connection for each request, which with 200 of them takes longer than the service.
        if self._http is None:
            self._http = aiohttp.ClientSession(
                # Connections are the caller's to bound: a request that waits for one runs into its time-out. An idle
                # one goes before uvicorn, after 5 s, closes it.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),
                headers=self._headers,
                timeout=self._timeout,
                proxy=proxy_of(self._url),
            )
        return self._http


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a server, as httpx finds it."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _flat(response: ScoreResponse) -> list[float]:
    return [value for value in response.scores if isinstance(value, float)]


def _nested(response: ScoreResponse) -> list[list[float]]:
    return [values for values in response.scores if isinstance(values, list)]

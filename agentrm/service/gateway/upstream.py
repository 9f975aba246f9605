"""The endpoint behind the gateway: its answers as they are, and several choices from it, however it gives them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from agentrm.core.errors import reason
from agentrm.models.endpoint import logprob_of
from agentrm.service.client import proxy_of
from agentrm.service.gateway.forms import Body, Candidate, summed

_CONNECT_S = 10.0
_BAD_GATEWAY, _TIMED_OUT = 502, 504
# How endpoints refuse a field that they do not know.
_ABOUT_FIELDS = (400, 404, 422, 501)
# What of an endpoint's headers is about its answer; the rest is about the connection.
_KEPT = ("content-type", "retry-after", "retry-after-ms", "www-authenticate")
_KEPT_PREFIXES = ("x-request-", "x-ratelimit-", "openai-")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the endpoint, or what stands for it where none came."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def choices(self) -> list[Body]:
        """The choices of a completion, none where it is something else."""
        given = self.body().get("choices") if self.status == 200 else None
        return [
            choice
            for choice in (given if isinstance(given, list) else ())
            if isinstance(choice, dict) and isinstance(choice.get("message"), dict)
        ]

    def body(self) -> Body:
        """The JSON object, an empty one where there is none."""
        try:
            parsed = json.loads(self.content, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}


class UpstreamRefused(Exception):
    """The endpoint gave no choice; `answer` is what it gave."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the upstream answered with status {answer.status}")
        self.answer = answer


class Upstream:
    """The endpoint at `url` (".../v1"); each request takes `deadline_s` at most, a stream that long until it begins and
    between two parts of it.
    """

    def __init__(self, url: str, deadline_s: float) -> None:
        self._url = url.rstrip("/")
        self._deadline_s = deadline_s
        self._http: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: Body | None = None) -> Answer:
        """The whole answer; 502 without one, 504 without one in time."""
        try:
            async with (
                asyncio.timeout(self._deadline_s),
                self.stream(method, path, headers, body) as (status, kept, parts),
            ):
                return Answer(status, kept, b"".join([part async for part in parts]))
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._failed(error)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Mapping[str, str], body: Body | None = None
    ) -> AsyncIterator[tuple[int, Mapping[str, str], AsyncIterator[bytes]]]:
        """The status, the headers and, as they come, the bytes; of what stands for an answer as of one."""
        call = self._session().request(
            method, self._url + path, json=body, headers=headers, allow_redirects=False, timeout=self._timeout()
        )
        try:
            response = await call
        except (aiohttp.ClientError, TimeoutError) as error:
            failed = self._failed(error)
            yield failed.status, failed.headers, _whole(failed.content)
            return
        async with response:
            kept = {
                name: value
                for name, value in response.headers.items()
                if name.lower() in _KEPT or name.lower().startswith(_KEPT_PREFIXES)
            }
            yield response.status, kept, response.content.iter_any()

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    def _failed(self, error: Exception) -> Answer:
        late = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
        told = f"gave no answer within {self._deadline_s:g} s" if late else f"does not answer: {reason(error)}"
        content = json.dumps({"error": {"message": f"the upstream {told}"}}).encode()
        return Answer(_TIMED_OUT if late else _BAD_GATEWAY, {"content-type": "application/json"}, content)

    def _timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=None, sock_connect=min(_CONNECT_S, self._deadline_s), sock_read=self._deadline_s
        )

    def _session(self) -> aiohttp.ClientSession:
        # As in `AsyncScoringClient`, which says why it is not httpx.
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4), proxy=proxy_of(self._url)
            )
        return self._http


def _no_number(_: str) -> None:
    """NaN and the infinities, which no JSON has."""


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content


@dataclass(slots=True)
class Samples:
    """What the endpoint has given for one request, in the order in which it came."""

    completions: list[Body] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, answer: Answer, likelihoods: bool) -> None:
        """Take an answer's choices; with `likelihoods` their log-probabilities were our wish, and are no part of what
        the caller gets. Raises UpstreamRefused for none.
        """
        choices = answer.choices()
        if not choices:
            raise UpstreamRefused(answer)
        self.completions.append(answer.body())
        for choice in choices:
            logprob = logprob_of(choice)
            self.candidates.append(Candidate(choice | {"logprobs": None} if likelihoods else choice, logprob))
        self.arrived.set()

    def usage(self) -> Body:
        """That of all completions."""
        return summed(
            [completion["usage"] for completion in self.completions if isinstance(completion.get("usage"), dict)]
        )


class Sampler:
    """Asks for several choices at once, and one at a time of an endpoint that does not give several; with `likelihoods`
    for their log-probabilities, unless an endpoint refuses these.
    """

    def __init__(self, upstream: Upstream, likelihoods: bool) -> None:
        self._upstream = upstream
        self._likelihoods = likelihoods
        self._singly: set[Any] = set()
        self._silent: set[Any] = set()

    async def sample(self, body: Body, headers: Mapping[str, str], count: int, samples: Samples) -> None:
        """Add up to `count` choices to `samples`, whose own number says how far a `seed` has got. Raises
        UpstreamRefused where not one came.
        """
        had = len(samples.candidates)
        wanted = had + count
        if count > 1 and body["model"] not in self._singly:
            try:
                await self._add(body, headers, samples, had, count)
            except UpstreamRefused as refused:
                if refused.answer.status not in _ABOUT_FIELDS:
                    raise
                # Whether `n` was at fault shows without it.
                await self._add(body, headers, samples, had)
            if len(samples.candidates) < wanted:
                self._singly.add(body["model"])
        singly = [self._add(body, headers, samples, number) for number in range(len(samples.candidates), wanted)]
        failed = [error for error in await asyncio.gather(*singly, return_exceptions=True) if error is not None]
        if failed and not samples.candidates:
            raise failed[0]

    async def _add(self, body: Body, headers: Mapping[str, str], samples: Samples, number: int, n: int = 1) -> None:
        """Add what one request gives, whose first choice is of this number."""
        sent = body | ({"n": n} if n > 1 else {})
        if isinstance(body.get("seed"), int):
            sent["seed"] = body["seed"] + number
        ours = self._likelihoods and not body.get("logprobs") and body["model"] not in self._silent
        if ours:
            answer = await self._upstream.ask("POST", "/chat/completions", headers, sent | {"logprobs": True})
            if answer.status not in _ABOUT_FIELDS:
                samples.add(answer, ours)
                return
        samples.add(await self._upstream.ask("POST", "/chat/completions", headers, sent), False)
        if ours:
            self._silent.add(body["model"])

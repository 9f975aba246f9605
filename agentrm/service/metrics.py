"""What the scoring service counts, in the text form that Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrm.models.engine import Reading

# From one short state on a GPU to a large batch that waits for a new replica.
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class RequestMetrics:
    """The counters of an application's requests; their names begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.registry = CollectorRegistry()
        self.waiting = Gauge(f"{prefix}_queue", "Requests that wait for their answers now", registry=self.registry)
        self._requests = Counter(
            f"{prefix}_requests", "Requests by path and status", ("path", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            f"{prefix}_request_seconds",
            "Time from a request to its answer",
            ("path",),
            buckets=SECONDS,
            registry=self.registry,
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)


class Metrics(RequestMetrics):
    """The counters of one scoring service."""

    def __init__(self) -> None:
        super().__init__("agentrm")
        self._states = Counter("agentrm_states", "Conversations and other inputs scored", registry=self.registry)
        self._tokens = Counter("agentrm_tokens", "Tokens of what was scored", registry=self.registry)
        self._cached = Counter(
            "agentrm_cached_tokens", "Those of them that the prefix cache held", registry=self.registry
        )
        self._shortened = Counter(
            "agentrm_shortened_states", "Those that exceed the context, read in part", registry=self.registry
        )

    def scored(self, scores: Sequence[Reading]) -> None:
        """Count what one request brought."""
        self._states.inc(len(scores))
        self._tokens.inc(sum(reading.tokens for reading in scores))
        self._cached.inc(sum(reading.cached for reading in scores))
        self._shortened.inc(sum(reading.left_out > 0 for reading in scores))


class Measured:
    """Middleware that counts and times all requests to an application's own paths; others share one label."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, paths: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.answered(path, status, time.perf_counter() - started)

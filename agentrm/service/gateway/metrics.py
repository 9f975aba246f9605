"""What the gateway counts, in the text form that Prometheus reads."""

from __future__ import annotations

from enum import Enum
from statistics import fmean

from prometheus_client import Counter, Histogram, Summary

from agentrm.service.gateway.forms import Chosen
from agentrm.service.metrics import SECONDS, RequestMetrics

_PREFIX = "agentrm_gateway"


class Part(str, Enum):
    """What a request's time goes into."""

    upstream = "upstream"
    scoring = "scoring"
    recording = "recording"


class GatewayMetrics(RequestMetrics):
    """The counters of one gateway."""

    def __init__(self) -> None:
        super().__init__(_PREFIX)
        self._parts = Histogram(
            f"{_PREFIX}_part_seconds", "Time by part", ("part",), buckets=SECONDS, registry=self.registry
        )
        self._gain = Summary(
            f"{_PREFIX}_gain",
            "Value of the chosen candidate above the mean of all that were sampled",
            registry=self.registry,
        )
        self._candidates = Counter(f"{_PREFIX}_candidates", "Candidates sampled", registry=self.registry)
        self._tokens = Counter(f"{_PREFIX}_tokens", "Tokens of all candidates", registry=self.registry)
        self._degraded = Counter(f"{_PREFIX}_degraded", "Answers that no value chose", registry=self.registry)
        self._unrecorded = Counter(f"{_PREFIX}_unrecorded", "Turns that could not be kept", registry=self.registry)
        for part in Part:
            self._parts.labels(part.value)

    def spent(self, part: Part, seconds: float) -> None:
        """Count the time of a part."""
        self._parts.labels(part.value).observe(seconds)

    def passed(self, tokens: int) -> None:
        """Count an answer that was passed through."""
        self._candidates.inc()
        self._tokens.inc(max(tokens, 0))

    def chosen(self, chosen: Chosen) -> None:
        """Count a choice."""
        self._candidates.inc(sum(candidate.count for candidate in chosen.candidates))
        self._tokens.inc(max(chosen.tokens, 0))
        if chosen.reason:
            self._degraded.inc()
            return
        valued = [
            value
            for candidate, value in zip(chosen.candidates, chosen.values, strict=True)
            for _ in range(candidate.count)
            if value is not None
        ]
        best = chosen.values[chosen.best[0]]
        if best is not None:
            self._gain.observe(best - fmean(valued))

    def unrecorded(self) -> None:
        """Count a turn that could not be kept."""
        self._unrecorded.inc()

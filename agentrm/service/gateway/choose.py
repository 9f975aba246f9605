"""Candidates for an agent's next turn, and the reward model's choice among them, within a request's budgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf, isnan

from agentrm.config.schema import Gateway
from agentrm.core.errors import AgentRMError, ContextOverflow, InputRefused, ModelError, reason
from agentrm.core.messages import AGENT, Conversation, checked, checked_tools
from agentrm.service.gateway.forms import Asked, Body, Candidate, Chosen, merged, whole
from agentrm.service.gateway.metrics import GatewayMetrics, Part
from agentrm.service.gateway.upstream import Sampler, Samples, Upstream, UpstreamRefused

Score = Callable[[list[Conversation]], Awaitable[list[float]]]
"""One value per conversation, each of which ends with the agent's turn; -inf for one that exceeds the context."""


class Chooser:
    """Samples, scores and orders the candidates of each request."""

    def __init__(self, upstream: Upstream, score: Score, settings: Gateway, metrics: GatewayMetrics) -> None:
        self._sampler = Sampler(upstream, settings.likelihood > 0)
        self._score = score
        self._settings = settings
        self._metrics = metrics

    async def choose(self, asked: Asked, headers: Mapping[str, str]) -> Chosen:
        """The best candidates in order, or those that came first where the reward model gives no values. Raises
        UpstreamRefused where there is no candidate.
        """
        until = inf if self._settings.seconds is None else time.monotonic() + self._settings.seconds
        samples, gated = Samples(), self._settings.gate is not None and asked.n == 1
        values: list[float] = []
        why = ""
        first = 1 if gated else self._affordable(asked, samples)
        await self._sample(asked, headers, samples, first, until)
        if gated:
            values, why = await self._values(asked, merged(samples.candidates))
        accepted = bool(values) and values[0] >= (self._settings.gate or 0.0)
        if not why and not accepted and len(samples.candidates) >= first and time.monotonic() < until:
            more = self._affordable(asked, samples)
            if more > 0:
                await self._sample(asked, headers, samples, more, until)
        candidates = merged(samples.candidates)
        if not why and len(values) < len(candidates):
            rest, why = await self._values(asked, candidates[len(values) :])
            values += rest
        chosen = _ordered(samples, candidates, values, why, asked.n, self._settings.likelihood)
        self._metrics.chosen(chosen)
        return chosen

    def _affordable(self, asked: Asked, samples: Samples) -> int:
        """How many more candidates the budget of tokens allows: by the length that the request allows, else by that of
        those that are there, else one to begin with.
        """
        had, budget = len(samples.candidates), self._settings.tokens
        missing = asked.k - had
        if budget is None:
            return missing
        limit = whole(asked.body.get("max_completion_tokens")) or whole(asked.body.get("max_tokens"))
        spent = whole(samples.usage().get("completion_tokens"))
        length = limit or (spent / had if had else budget)
        affordable = int((budget - spent) / length) if length else missing
        return min(missing, max(affordable, asked.n - had, 1 - had))

    async def _sample(
        self, asked: Asked, headers: Mapping[str, str], samples: Samples, count: int, until: float
    ) -> None:
        """Add candidates until `until`, or until there is one. Raises UpstreamRefused where there is none."""
        started, had = time.perf_counter(), bool(samples.candidates)
        sampling = asyncio.ensure_future(self._sampler.sample(asked.body, headers, count, samples))
        arriving = asyncio.ensure_future(samples.arrived.wait())
        try:
            await asyncio.wait({sampling}, timeout=None if until == inf else max(until - time.monotonic(), 0.0))
            await asyncio.wait({sampling, arriving}, return_when=asyncio.FIRST_COMPLETED)
            if sampling.done():
                sampling.result()
        except UpstreamRefused:
            if not had:
                raise
        finally:
            sampling.cancel()
            arriving.cancel()
            await asyncio.gather(sampling, arriving, return_exceptions=True)
            self._metrics.spent(Part.upstream, time.perf_counter() - started)

    async def _values(self, asked: Asked, candidates: Sequence[Candidate]) -> tuple[list[float], str]:
        """The candidates' values, or why there are none."""
        started = time.perf_counter()
        try:
            readable = _conversations(asked.body, candidates)
            async with asyncio.timeout(self._settings.scoring_s):
                scores = await self._score(list(readable.values()))
            if any(map(isnan, scores)):
                raise ModelError("the reward model gave a score that is no number")
            if max(scores) == -inf:
                raise ContextOverflow("the conversation is longer than the reward model's context")
            values = dict(zip(readable, scores, strict=True))
            return [values.get(number, -inf) for number in range(len(candidates))], ""
        except TimeoutError:
            return [], f"the reward model gave no values within {self._settings.scoring_s:g} s"
        except AgentRMError as error:
            return [], reason(error)
        except Exception as error:  # whatever it is: the upstream's answer is there, and is the caller's
            return [], f"the reward model failed: {type(error).__name__}"
        finally:
            self._metrics.spent(Part.scoring, time.perf_counter() - started)


def _conversations(body: Body, candidates: Sequence[Candidate]) -> dict[int, Conversation]:
    """The request's conversation with each candidate at its end, by the candidate's number, without those that no
    reward model here reads. Raises InputRefused where none is left.
    """
    before, tools = checked(body["messages"]), checked_tools(body.get("tools"))
    conversations, refused = {}, InputRefused("there is no candidate")
    for number, candidate in enumerate(candidates):
        try:
            (turn,) = checked([candidate.message | {"role": AGENT}], "candidates")
        except InputRefused as error:
            refused = error
        else:
            conversations[number] = Conversation([*before, turn], tools)
    if not conversations:
        raise refused
    return conversations


def _ordered(
    samples: Samples, candidates: Sequence[Candidate], values: Sequence[float], why: str, n: int, likelihood: float
) -> Chosen:
    """The `n` best; where there are fewer distinct ones, those that came several times stand so often."""
    numbers = list(range(len(candidates)))
    known: list[float | None] = [value if value > -inf else None for value in values]
    known += [None] * (len(candidates) - len(known))
    if not why:
        worth = list(values)
        logprobs = [candidate.logprob for candidate in candidates if candidate.logprob is not None]
        if len(logprobs) == len(candidates):
            worth = [value + likelihood * logprob for value, logprob in zip(values, logprobs, strict=True)]
        numbers.sort(key=lambda number: -worth[number])
    repeats = [number for number in numbers for _ in range(candidates[number].count - 1)]
    best = sorted((numbers + repeats)[:n], key=numbers.index)
    return Chosen(samples.completions[0], candidates, known, best, samples.usage(), why)

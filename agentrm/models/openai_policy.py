"""A policy behind an OpenAI-compatible chat endpoint: nothing of it is on this machine but its name and address.

Its directory holds `endpoint.json` in place of weights, so that every stage takes it as it takes any other policy.
"""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

from agentrm.config.schema import ActionFormat, Sampling
from agentrm.errors import InputRefused, ModelError
from agentrm.models.actions import parse
from agentrm.models.endpoint import ChatEndpoint
from agentrm.models.state import Proposal, State

FILE = "endpoint.json"
KEY_VARIABLE = "OPENAI_API_KEY"


def is_endpoint(source: str) -> bool:
    """Whether `model.source` is an endpoint's address."""
    return source.startswith(("http://", "https://"))


def api_key() -> str:
    """The endpoint's key; endpoints without one take any."""
    return os.environ.get(KEY_VARIABLE) or "none"


def describe(directory: Path, url: str, model: str) -> None:
    """Write the directory of a remote policy."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE).write_text(json.dumps({"url": url, "model": model}, indent=2) + "\n")


def connect(directory: Path, sampling: Sampling, form: ActionFormat, seed: int) -> EndpointPolicy:
    """The policy that `describe` wrote, its key from the variable OPENAI_API_KEY. Raises ModelError."""
    try:
        settings = json.loads((directory / FILE).read_text())
        url, model = settings["url"], settings["model"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{directory} holds no remote policy: its {FILE} cannot be read") from error
    endpoint = ChatEndpoint(url, model, api_key(), concurrency=256, retries=4)
    return EndpointPolicy(endpoint, sampling, form, seed)


class EndpointPolicy:
    """A `Policy` over a chat endpoint. Without log-probabilities from it, its proposals have 0; without counts of
    tokens, 0 tokens. Endpoints that give one choice at a time are asked until there are enough.
    """

    def __init__(self, endpoint: ChatEndpoint, sampling: Sampling, form: ActionFormat, seed: int = 0) -> None:
        self._endpoint = endpoint
        self._sampling = sampling
        self._form = form
        self._seed = seed
        self._logprobs = True

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """`n` sampled turns. Raises ContextOverflow when the state does not fit, ModelError without an answer."""
        key = f"{self._seed}|{seed}|{state.task.id}|{state.actions}"
        drawn = int.from_bytes(blake2b(key.encode(), digest_size=3).digest(), "big")
        wanted = 1 if greedy else n
        proposals: list[Proposal] = []
        while len(proposals) < wanted:
            found = await self._sample(state, wanted - len(proposals), drawn + len(proposals), greedy)
            if not found:
                raise ModelError(f"{self._endpoint.model} answered without a choice")
            proposals += found
        return proposals * n if greedy else proposals[:n]

    async def _sample(self, state: State, n: int, seed: int, greedy: bool) -> list[Proposal]:
        options: dict[str, Any] = {
            "n": n,
            "seed": seed,
            "temperature": 0.0 if greedy else self._sampling.temperature,
            "top_p": 1.0 if greedy else self._sampling.top_p,
            "max_tokens": self._sampling.max_tokens,
        }
        try:
            answer = await self._endpoint.chat(state.messages(), **options, **self._asked_logprobs())
        except InputRefused as error:
            if not self._logprobs or "logprob" not in str(error).lower():
                raise
            self._logprobs = False
            answer = await self._endpoint.chat(state.messages(), **options)
        # Only all choices together are counted, where no log-probabilities are.
        shared = answer.usage.completion_tokens // max(len(answer.choices), 1) if answer.usage else 0
        return [self._proposal(choice, shared) for choice in answer.choices]

    def _asked_logprobs(self) -> dict[str, Any]:
        return {"logprobs": True} if self._logprobs else {}

    def _proposal(self, choice: Any, tokens: int) -> Proposal:
        text = (choice.message.content or "").strip()
        thought, action, malformed = parse(text, self._form)
        given = choice.logprobs.content if choice.logprobs and choice.logprobs.content else None
        if given is None:
            return Proposal(text, action, thought, 0.0, tokens, malformed)
        return Proposal(text, action, thought, sum(each.logprob for each in given), len(given), malformed)

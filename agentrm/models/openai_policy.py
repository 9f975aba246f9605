"""A policy behind an OpenAI-compatible chat endpoint: nothing of it is on this machine but its name and address.

Its directory holds `endpoint.json` in place of weights, so that every stage takes it as it takes any other policy.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from agentrm.config.schema import Sampling
from agentrm.core.actions import ActionFormat, read
from agentrm.core.errors import ModelError
from agentrm.core.state import Proposal, State
from agentrm.models.endpoint import ChatEndpoint, Choice

FILE = "endpoint.json"
KEY_VARIABLE = "OPENAI_API_KEY"


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

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """`n` sampled turns. Raises what `ChatEndpoint` raises."""
        key = f"{self._seed}|{seed}|{state.task.id}|{state.actions}"
        choices = await self._endpoint.sample(
            state.conversation().messages,
            1 if greedy else n,
            int.from_bytes(blake2b(key.encode(), digest_size=3).digest(), "big"),
            top_p=1.0 if greedy else self._sampling.top_p,
            temperature=0.0 if greedy else self._sampling.temperature,
            max_tokens=self._sampling.max_tokens,
            logprobs=True,
        )
        proposals = [self._proposal(each) for each in choices]
        return proposals * n if greedy else proposals

    def _proposal(self, choice: Choice) -> Proposal:
        turn = read(choice.text, self._form, choice.logprob, choice.tokens)
        return turn if turn.thought else replace(turn, thought=choice.reasoning.strip())

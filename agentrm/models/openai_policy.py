"""A policy behind an OpenAI-compatible chat endpoint: nothing of it is on this machine but its name and address.

Its directory holds `endpoint.json` in place of weights, so that every stage takes it as it takes any other policy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentrm.config.schema import Model, Sampling, Thinking
from agentrm.core.actions import ActionFormat, read
from agentrm.core.errors import ModelError
from agentrm.core.messages import Message
from agentrm.core.state import Proposal, State
from agentrm.models import tool_calls
from agentrm.models.endpoint import ChatEndpoint, Choice, seed_of
from agentrm.models.tool_calls import Turn

FILE = "endpoint.json"
KEY_VARIABLE = "OPENAI_API_KEY"


def api_key() -> str:
    """The endpoint's key; endpoints without one take any."""
    return os.environ.get(KEY_VARIABLE) or "none"


def describe(directory: Path, url: str, model: str) -> None:
    """Write the directory of a remote policy."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE).write_text(json.dumps({"url": url, "model": model}, indent=2) + "\n")


def connect(directory: Path, model: Model, sampling: Sampling, seed: int) -> EndpointPolicy:
    """The policy that `describe` wrote, its key from the variable OPENAI_API_KEY. Raises ModelError."""
    try:
        settings = json.loads((directory / FILE).read_text())
        url, name = settings["url"], settings["model"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{directory} holds no remote policy: its {FILE} cannot be read") from error
    endpoint = ChatEndpoint(url, name, api_key(), concurrency=256, retries=4)
    return EndpointPolicy(endpoint, sampling, model.action_format, seed, model.template_kwargs, model.thinking)


class EndpointPolicy:
    """A `Policy` over a chat endpoint. Without log-probabilities from it, its proposals have 0; without counts of
    tokens, 0 tokens. Endpoints that give one choice at a time are asked until there are enough.

    The endpoint's chat template gets `settings`, and with the conversation the thoughts that the endpoint gave apart,
    unless `thinking` drops them.
    """

    def __init__(
        self,
        endpoint: ChatEndpoint,
        sampling: Sampling,
        form: ActionFormat,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        thinking: Thinking = Thinking.template,
    ) -> None:
        self._endpoint = endpoint
        self._sampling = sampling
        self._form = form
        self._seed = seed
        self._thinking = thinking
        self._extra = {"extra_body": {"chat_template_kwargs": dict(settings)}} if settings else {}

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """`n` sampled turns. Raises what `ChatEndpoint` raises."""
        key = f"{self._seed}|{seed}|{state.task.id}|{state.actions}"
        choices = await self._endpoint.sample(
            self._shown(state),
            1 if greedy else n,
            seed_of(key),
            top_p=1.0 if greedy else self._sampling.top_p,
            temperature=0.0 if greedy else self._sampling.temperature,
            max_tokens=self._sampling.max_tokens,
            logprobs=True,
            **({"tools": list(state.tools)} if state.tools else {}),
            **self._extra,
        )
        proposals = [self._proposal(state, choice) for choice in choices]
        return proposals * n if greedy else proposals

    def _shown(self, state: State) -> Sequence[Message]:
        messages = state.conversation().messages
        if self._thinking is not Thinking.drop:
            return messages
        return [{name: value for name, value in message.items() if name != "reasoning_content"} for message in messages]

    def _proposal(self, state: State, choice: Choice) -> Proposal:
        reasoning = choice.reasoning.strip()
        if self._form is ActionFormat.tools:
            turn = Turn(choice.text.strip(), reasoning, choice.calls)
            return tool_calls.propose(state, turn, choice.logprob, choice.tokens)
        said = read(choice.text, self._form, choice.logprob, choice.tokens)
        return replace(said, thought=said.thought or reasoning, reasoning=reasoning)

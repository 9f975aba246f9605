"""A language model as policy: states to prompts, completions to actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from agentrm.config.schema import Engine, Sampling
from agentrm.core.actions import ActionFormat, read
from agentrm.core.state import Proposal, State
from agentrm.models import tool_calls
from agentrm.models.engine import EngineLoop
from agentrm.rendering.renderer import Renderer


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled token ids (the stop token left out), their number with it, and the sum of their natural-log probabilities
    under the policy at temperature 1.
    """

    ids: list[int]
    tokens: int
    logprob: float


class Generator(Protocol):
    """Continues token ids; in this process or behind a Ray actor."""

    async def generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        """`n` completions of one prompt, in the order of sampling."""
        ...


class GenerationEngine:
    """A policy on vLLM in this process. A completion ends at a stop token or after `sampling.max_tokens`."""

    def __init__(
        self,
        directory: str | Path,
        engine: Engine,
        sampling: Sampling,
        context: int,
        stop_ids: Sequence[int],
        seed: int,
    ) -> None:
        self._loop = EngineLoop(directory, engine, context, "generate", seed)
        self._sampling = sampling
        self._stop_ids = list(stop_ids)
        self._context = context
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._parameters = partial(
            SamplingParams,
            stop_token_ids=self._stop_ids,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        """`n` completions of one prompt; equal arguments give equal completions on one engine build."""
        parameters = self._parameters(
            n=1 if greedy else n,
            temperature=0.0 if greedy else self._sampling.temperature,
            top_p=1.0 if greedy else self._sampling.top_p,
            max_tokens=min(self._sampling.max_tokens, self._context - len(ids)),
            seed=seed,
        )
        output = await self._loop.request(ids, parameters)
        completions = [
            self._completion(completion)
            for completion in sorted(output.outputs, key=lambda completion: completion.index)
        ]
        return completions * n if greedy else completions

    def _completion(self, output: Any) -> Completion:
        sampled = list(output.token_ids)
        ids = sampled[:-1] if sampled and sampled[-1] in self._stop_ids else sampled
        return Completion(ids, len(sampled), float(output.cumulative_logprob))

    @property
    def alive(self) -> bool:
        """Whether the engine still takes requests."""
        return self._loop.alive

    def close(self) -> None:
        """Stop the engine."""
        self._loop.close()


class LanguageModelPolicy:
    """The `Policy` over any `Generator`. Where it calls tools, `tool_parser` reads the calls; raises ModelError where
    none can (see `CallReader`).
    """

    def __init__(
        self,
        generator: Generator,
        renderer: Renderer,
        form: ActionFormat,
        seed: int = 0,
        tool_parser: str = tool_calls.AUTO,
    ) -> None:
        self._generator = generator
        self._renderer = renderer
        self._form = form
        self._seed = seed
        self._calls = tool_calls.CallReader(renderer, tool_parser) if form is ActionFormat.tools else None

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """`n` sampled turns. Raises ContextOverflow when the state does not fit."""
        prompt = self._renderer.prompt(state.conversation())
        key = f"{self._seed}|{seed}|{state.task.id}|{state.actions}"
        drawn = int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big")
        completions = await self._generator.generate(prompt, n, greedy, drawn)
        return [self._proposal(state, completion) for completion in completions]

    def _proposal(self, state: State, completion: Completion) -> Proposal:
        ids, logprob, tokens = completion.ids, completion.logprob, completion.tokens
        if self._calls is not None:
            return tool_calls.propose(state, self._calls.read(ids, state.tools), logprob, tokens)
        said, thoughts = self._renderer.said(ids)
        turn = read(said, self._form, logprob, tokens)
        return replace(turn, thought=turn.thought or thoughts, reasoning=thoughts)

"""The implicit reward model (paper, section 3): beta * log(pi(a) / pi_ref(a)), summed over the agent's turns.

By the paper it learns the outcomes or the progress of whole episodes (`train.labels.of`), from which those of single
steps follow as in ImplicitPRM (Yuan et al. 2024).
It is a plain causal LM beside the reference that it was trained from; its config.json says which and how.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agentrm import model_directory, storage
from agentrm.config.schema import Engine
from agentrm.core.errors import ContextOverflow, ModelError, UserError
from agentrm.core.state import State
from agentrm.model_directory import IMPLICIT, ModelKind
from agentrm.models.engine import EngineLoop
from agentrm.rendering.renderer import Rendered, Renderer, settle_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TokenScorer(Protocol):
    """Log-probabilities of given tokens; in this process or elsewhere."""

    async def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """The natural log of each token's probability after those before it; NaN for the first."""
        ...


class TransformersTokenScorer:
    """By plain transformers, one forward pass per sequence, in a thread."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model.eval()

    async def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """See `TokenScorer`."""
        return await asyncio.to_thread(self._forward, list(ids))

    def _forward(self, ids: list[int]) -> list[float]:
        import torch

        tokens = torch.tensor([ids], device=self._model.device)
        with torch.no_grad():
            logits = self._model(input_ids=tokens).logits[0, :-1].float()
        logprobs = logits.log_softmax(-1).gather(1, tokens[0, 1:, None]).squeeze(1)
        return [float("nan"), *logprobs.tolist()]


class VllmTokenScorer:
    """By vLLM's prompt log-probabilities, which leave its prefix cache unused: every state is computed whole."""

    def __init__(self, directory: str | Path, engine: Engine, context: int) -> None:
        # The engine wants room for one token that it samples and nobody reads.
        self._loop = EngineLoop(directory, engine, context + 1, "generate")
        from vllm import SamplingParams

        self._parameters = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)

    async def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """See `TokenScorer`."""
        output: Any = await self._loop.request(ids, self._parameters)
        entries = zip(ids[1:], output.prompt_logprobs[1:], strict=True)
        return [float("nan"), *(entry[token].logprob for token, entry in entries)]

    @property
    def alive(self) -> bool:
        """Whether the engine still takes requests."""
        return self._loop.alive

    def close(self) -> None:
        """Stop the engine."""
        self._loop.close()


class ImplicitRewardModel:
    """A `RewardModel`: beta times the log-probability ratio of all the agent's tokens of a state; 0 without any."""

    def __init__(self, policy: TokenScorer, reference: TokenScorer, renderer: Renderer, beta: float) -> None:
        self._policy = policy
        self._reference = reference
        self._renderer = renderer
        self._beta = beta

    async def score(self, states: Sequence[State]) -> list[float]:
        """The trajectory scores: one raw value per state, -inf for one that exceeds the context."""
        steps = await asyncio.gather(*(self._fitting(state) for state in states))
        return [-inf if values is None else sum(values) for values in steps]

    async def step_scores(self, state: State) -> list[float]:
        """r_t of each step, which sum to the trajectory's score. Raises ContextOverflow."""
        rendered = await asyncio.to_thread(self._renderer.render, state.conversation())
        return _by_step(rendered, await self.token_rewards(rendered))

    async def token_rewards(self, rendered: Rendered) -> list[float]:
        """What each token adds to the score: beta times its log-probability ratio; 0 for the environment's tokens."""
        policy, reference = await asyncio.gather(
            self._policy.log_probabilities(rendered.ids), self._reference.log_probabilities(rendered.ids)
        )
        return [
            self._beta * (ours - theirs) if agent else 0.0
            for ours, theirs, agent in zip(policy, reference, rendered.agent, strict=True)
        ]

    async def _fitting(self, state: State) -> list[float] | None:
        with suppress(ContextOverflow):
            return await self.step_scores(state)
        return None


def _by_step(rendered: Rendered, rewards: Sequence[float]) -> list[float]:
    """The sums over each step, which ends with the environment's message."""
    ends = [end for end in rendered.states if end is not None]
    return [sum(rewards[start + 1 : end + 1]) for start, end in pairwise(ends)]


def copy(base: Path, directory: Path) -> None:
    """Write the untrained reward model: the reference itself, its chat template with a fixed date for today's. Raises
    UserError unless `base` holds a policy: the values of a reward model, explicit or implicit, would be lost.
    """
    from transformers import AutoTokenizer

    held = model_directory.kind_of_base(base)
    if held is not ModelKind.policy:
        raise UserError(
            f"train.base is {base}, an {held.value} reward model, whose values an implicit one cannot start from: name "
            "the policy that it was trained from"
        )
    shutil.copytree(base, directory, ignore=shutil.ignore_patterns("tensorboard"), dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    settle_template(tokenizer)
    tokenizer.save_pretrained(directory)


def describe(directory: Path, beta: float, reference: str) -> None:
    """Write into a causal LM's config.json what makes it a reward model; `reference` is the path to the model that it
    was trained from, seen from `directory`, or a URI.
    """
    model_directory.write_settings(
        directory, model_directory.settings(directory) | {IMPLICIT: {"beta": beta, "reference": reference}}
    )


def described(directory: Path) -> tuple[float, Path]:
    """What `describe` wrote: beta and the reference's directory. Raises ModelError when either model is gone."""
    match model_directory.settings(directory).get(IMPLICIT):
        case {"beta": int() | float() as beta, "reference": str() as named}:
            pass
        case _:
            raise ModelError(
                f"{directory} holds no implicit reward model: its config.json has no {IMPLICIT}, which needs beta and "
                "reference"
            )
    reference = storage.fetch(named) if storage.is_uri(named) else directory / named
    if not (reference / "config.json").is_file():
        raise ModelError(f"the reference of {directory} is {reference}, where there is no model")
    return beta, reference


def load(directory: Path, context: int) -> ImplicitRewardModel:
    """The reward model that `describe` marked, by transformers. Raises ModelError when it or its reference is gone."""
    from transformers import AutoModelForCausalLM

    beta, reference = described(directory)
    policy, base = (
        TransformersTokenScorer(AutoModelForCausalLM.from_pretrained(path, dtype="auto"))
        for path in (directory, reference)
    )
    return ImplicitRewardModel(policy, base, Renderer.from_pretrained(directory, context), beta)


def verify(directory: Path, context: int, states: Sequence[State], expected: Sequence[float]) -> float:
    """Load an export as any user would and compare its scores with those of the weights in training.

    Returns the largest difference. Raises ModelError when it is too large.
    """
    scores = asyncio.run(load(directory, context).score(states))
    difference = max(abs(score - wanted) for score, wanted in zip(scores, expected, strict=True))
    if isnan(difference) or difference > 1e-2:
        raise ModelError(f"the scores of {directory} differ from those in training by {difference:.2g}: export again")
    return difference

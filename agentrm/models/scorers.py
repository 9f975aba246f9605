"""What scores behind the service: any reward model or ensemble that `agentrm train` wrote, or one of others, on vLLM.

A model reads conversations, which it renders as in training, or token ids or text as they are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Literal, Protocol

from agentrm import model_directory
from agentrm.config.schema import Engine
from agentrm.core.errors import ContextOverflow, InputRefused, ModelError, UserError
from agentrm.core.messages import AGENT, Conversation, environment_turns
from agentrm.core.protocols import CostedValue
from agentrm.model_directory import ModelKind
from agentrm.models import ensemble, implicit
from agentrm.models.baselines import score_what_fits
from agentrm.models.engine import EnsembleEngine, Reading, joined, scoring_engines, shared
from agentrm.rendering.renderer import Renderer, read_alike


@dataclass(frozen=True, slots=True)
class Text:
    """Text to be read as it is, special tokens included; `special` adds those that the tokenizer begins texts with."""

    text: str
    special: bool = True


@dataclass(frozen=True, slots=True)
class Truncated:
    """An input of which only `tokens` tokens are read, -1 for as many as fit the context: the first of them, or with
    `side` = `left` the last. Without a side what the tokenizer adds to a text is kept, as in vLLM.
    """

    whole: Conversation | list[int] | Text
    tokens: int
    side: Literal["left", "right"] | None = None


Input = Conversation | list[int] | Text | Truncated


class Per(str, Enum):
    """Where values are read: after the whole `input`, after each turn of the environment (`step`), there and after the
    whole where it ends in the agent's turn (`turn`), or after each `token`.
    """

    input = "input"
    step = "step"
    turn = "turn"
    token = "token"


class Scorer(Protocol):
    """A reward model with its engines. `context`: the longest input, in tokens; `labels`: what the values that it gives
    are named by.
    """

    context: int
    labels: list[str]

    async def read(self, inputs: Sequence[Input], per: Per = Per.input) -> list[Reading]:
        """One `Reading` per input, independent of the others. Raises InputRefused."""
        ...

    async def rank(self, conversations: Sequence[Conversation]) -> list[float]:
        """Raw values for a search: -inf for a conversation that exceeds the context."""
        ...

    @property
    def alive(self) -> bool:
        """Whether its engines still run."""
        ...

    def close(self) -> None:
        """Stop the engines."""
        ...


class ExplicitScorer:
    """A classifier's head on a pooling engine: a value of an input is that of `label` (empty: the only one there is) at
    the last token that is no padding. Of several `directories`, which all read inputs as the first does, it is the
    lower confidence of theirs by the `penalty`.
    """

    def __init__(
        self, directories: Sequence[Path], engine: Engine, context: int, label: str = "", penalty: float = 0.0
    ) -> None:
        directory = directories[0]
        self.context = context
        self.labels = model_directory.labels(directory)
        self._renderer = Renderer.from_pretrained(directory, context)
        # vLLM too cuts there, whatever the tokenizer's own side is.
        self._renderer.tokenizer.truncation_side = "right"
        self._unbounded = copy(self._renderer)
        self._unbounded.context = sys.maxsize
        engines = scoring_engines(
            directories, engine, context, lambda member: model_directory.reward_label(member, label)
        )
        self._engine = EnsembleEngine(engines, penalty) if len(engines) > 1 else engines[0]
        # Some tokenizers know more tokens than their model.
        self._known = len(self._renderer.tokenizer) <= self._engine.vocabulary

    async def read(self, inputs: Sequence[Input], per: Per = Per.input) -> list[Reading]:
        """See `Scorer`."""
        if per in (Per.step, Per.turn):
            return list(await asyncio.gather(*(self._score_steps(given, per) for given in inputs)))
        fitted = await asyncio.to_thread(lambda: [self._read(given) for given in inputs])
        known = self._known and all(isinstance(given, Conversation) for given in inputs)
        readings = await self._engine.read([ids for ids, _ in fitted], per is Per.token, known)
        return [replace(reading, left_out=left_out) for reading, (_, left_out) in zip(readings, fitted, strict=True)]

    async def rank(self, conversations: Sequence[Conversation]) -> list[float]:
        """See `Scorer`."""
        return await score_what_fits(partial(self._engine.score_ids, known=self._known), self._renderer, conversations)

    @property
    def alive(self) -> bool:
        """See `Scorer`."""
        return self._engine.alive

    def close(self) -> None:
        """See `Scorer`."""
        self._engine.close()

    async def _score_steps(self, given: Input, per: Per) -> Reading:
        """The values of all states of a conversation, and by `turn` that of the whole, all of one pass."""
        if not isinstance(given, Conversation):
            raise InputRefused("values per step need conversations: token ids and text do not show where steps end")
        covering = await asyncio.to_thread(self._renderer.cover, given)
        whole: list[int] = []
        if per is Per.turn and given.messages[-1]["role"] == AGENT:
            whole, _ = await asyncio.to_thread(self._renderer.fitted, given)
        together = bool(whole) and covering[0].ids[: len(whole)] == whole
        places = [[end for end in rendered.states if end is not None] for rendered in covering]
        places[0] += [len(whole) - 1] * together
        readings = await self._engine.read(
            [rendered.ids for rendered in covering], every_token=True, known=self._known, places=places
        )
        values = {
            number: reading.values[self._engine.read_at(rendered.ids[: end + 1])]
            for rendered, reading in zip(covering, readings, strict=True)
            for number, end in enumerate(rendered.states)
            if end is not None
        }
        ends = environment_turns(given.messages)
        if missing := [number for number in ends if number not in values]:
            raise InputRefused(f"the chat template does not take the conversation up to step {missing[0]}")
        step_values = [values[number] for number in ends]
        if together:
            step_values.append(readings[0].values[self._engine.read_at(whole)])
        elif whole:
            # What is longer than the context is cut for each state, and for the whole, in its own way.
            readings = [*readings, *await self._engine.read([whole], known=self._known)]
            step_values.append(readings[-1].values[-1])
        tokens, cached = (sum(getattr(reading, name) for reading in readings) for name in ("tokens", "cached"))
        left_out = sum(rendered.left_out for rendered in covering)
        return Reading(step_values, tokens, cached, left_out=left_out)

    def _read(self, given: Input) -> tuple[list[int], int]:
        """The ids of an input, and how many it has more."""
        if isinstance(given, Conversation):
            return self._renderer.fitted(given)
        ids = self._cut(given) if isinstance(given, Truncated) else self._ids(given)
        if not ids:
            raise InputRefused("the text has no tokens: send at least one")
        if len(ids) > self.context:
            raise ContextOverflow(f"the input has {len(ids)} tokens, the model's context is {self.context}")
        return ids, 0

    def _cut(self, given: Truncated) -> list[int]:
        kept = self.context if given.tokens == -1 else given.tokens
        if kept > self.context:
            raise InputRefused(f"{kept} tokens are to be kept, the model's context is {self.context}")
        ids = self._ids(given.whole, kept if given.side is None else None)
        return ids[-kept:] if given.side == "left" else ids[:kept]

    def _ids(self, given: Conversation | list[int] | Text, limit: int | None = None) -> list[int]:
        """All ids of an input, but of a text at most `limit`."""
        if isinstance(given, Text):
            return self._renderer.text_ids(given.text, given.special, limit)
        return self._unbounded.ids(given) if isinstance(given, Conversation) else given


class ImplicitScorer:
    """Two engines, the model's and its reference's, which share the memory: a value of an input is the sum of what its
    tokens add.
    """

    def __init__(self, directory: Path, engine: Engine, context: int) -> None:
        beta, reference = implicit.described(directory)
        # One token of the models' context is kept for what vLLM samples.
        self.context = context - 1
        self.labels = ["LABEL_0"]
        self._renderer = Renderer.from_pretrained(directory, self.context)
        half = shared(engine, 2)
        self._engines = [implicit.VllmTokenScorer(path, half, self.context) for path in (directory, reference)]
        policy, base = self._engines
        self._model = implicit.ImplicitRewardModel(policy, base, self._renderer, beta)

    async def read(self, inputs: Sequence[Input], per: Per = Per.input) -> list[Reading]:
        """See `Scorer`. Raises InputRefused for token ids and text too, which do not show whose a token is."""
        return list(await asyncio.gather(*(self._score(given, per) for given in inputs)))

    async def rank(self, conversations: Sequence[Conversation]) -> list[float]:
        """See `Scorer`."""
        return list(await asyncio.gather(*(self._rank(conversation) for conversation in conversations)))

    @property
    def alive(self) -> bool:
        """See `Scorer`."""
        return all(engine.alive for engine in self._engines)

    def close(self) -> None:
        """See `Scorer`."""
        for engine in self._engines:
            engine.close()

    async def _score(self, given: Input, per: Per) -> Reading:
        if not isinstance(given, Conversation):
            raise InputRefused(
                "an implicit reward model scores whole conversations only: it must know the agent's turns"
            )
        rendered = await asyncio.to_thread(self._renderer.render, given)
        values = list(accumulate(await self._model.token_rewards(rendered)))
        if per is Per.input:
            values = values[-1:]
        elif per in (Per.step, Per.turn):
            ends = [rendered.states[number] for number in environment_turns(given.messages)]
            if None in ends:
                raise InputRefused("the chat template changes earlier turns, so no token ends a step: ask per input")
            last = values[-1:] if per is Per.turn and given.messages[-1]["role"] == AGENT else []
            values = [values[end] for end in ends if end is not None] + last
        return Reading(values, len(rendered.ids), 0)

    async def _rank(self, conversation: Conversation) -> float:
        with suppress(ContextOverflow):
            (score,) = await self.read([conversation])
            return CostedValue(score.values[-1], score.tokens, score.cached)
        return -inf


class EnsembleScorer:
    """Several reward models that each read inputs in a way of their own, by the lower confidence of their values."""

    def __init__(self, members: Sequence[Scorer], penalty: float) -> None:
        self.context = min(member.context for member in members)
        self.labels = members[0].labels
        self._members = list(members)
        self._penalty = penalty

    async def read(self, inputs: Sequence[Input], per: Per = Per.input) -> list[Reading]:
        """See `Scorer`."""
        return joined(await asyncio.gather(*(member.read(inputs, per) for member in self._members)), self._penalty)

    async def rank(self, conversations: Sequence[Conversation]) -> list[float]:
        """See `Scorer`. A value's cost is that of all members."""
        scores = await asyncio.gather(*(member.rank(conversations) for member in self._members))
        costs = [[score for score in own if isinstance(score, CostedValue)] for own in zip(*scores, strict=True)]
        return [
            CostedValue(
                value,
                sum(score.tokens for score in cost),
                sum(score.cached for score in cost),
                max((score.left_out for score in cost), default=0),
            )
            for value, cost in zip(ensemble.lower_confidence(scores, self._penalty), costs, strict=True)
        ]

    @property
    def alive(self) -> bool:
        """See `Scorer`."""
        return all(member.alive for member in self._members)

    def close(self) -> None:
        """See `Scorer`."""
        for member in self._members:
            member.close()


def check_actions(directory: Path) -> None:
    """Raise UserError for a reward model that has learned no values of actions, which `evaluate.score` may ask for."""
    if model_directory.ACTION not in model_directory.learned_at(directory):
        raise UserError(
            f"evaluate.score=before_acting compares values of actions, which the reward model in {directory} has not "
            "learned: train one with train.labels.at=[state,action]"
        )


def check(directory: Path, label: str = "") -> None:
    """Raise ModelError unless a directory says that it holds a reward model, or an ensemble of some."""
    members, _ = ensemble.described(directory)
    for member in members:
        _opener(member, label)


def open_scorer(directory: Path, engine: Engine, context: int, label: str = "") -> Scorer:
    """The reward model in a directory, on engines in this process; the members of an ensemble share the memory. `label`
    names the reward of a classifier of several labels. Raises ModelError when there is none.
    """
    members, penalty = ensemble.described(directory)
    if all(model_directory.kind(path) is ModelKind.explicit for path in members) and read_alike(members):
        for member in members:
            model_directory.reward_label(member, label)
        return ExplicitScorer(members, engine, context, label, penalty)
    share = shared(engine, len(members))
    return EnsembleScorer([_opener(path, label)(path, share, context) for path in members], penalty)


def _opener(directory: Path, label: str) -> Callable[[Path, Engine, int], Scorer]:
    match model_directory.kind(directory):
        case ModelKind.explicit:
            model_directory.reward_label(directory, label)
            return lambda path, engine, context: ExplicitScorer([path], engine, context, label)
        case ModelKind.implicit:
            implicit.described(directory)
            return ImplicitScorer
        case ModelKind.policy:
            named = model_directory.architecture(directory)
            raise ModelError(f"{directory} holds {named}, not a reward model (…{model_directory.CLASSIFIER})")

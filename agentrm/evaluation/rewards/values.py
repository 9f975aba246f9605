"""The values that a reward model gives to a conversation: after its opening and after each of the agent's turns."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from agentrm.core.errors import InputRefused
from agentrm.core.messages import Conversation, Message, environment_turns, runs, text_of
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per


class Scoring(Protocol):
    """What reads conversations: an engine, a service. Raises InputRefused for one that the model cannot read, such as
    one that is longer than its context.
    """

    async def whole(self, conversation: Conversation) -> float:
        """The value of a whole conversation."""
        ...

    async def turns(self, conversation: Conversation) -> list[float]:
        """The values of its states (see `environment_turns`), and of the whole where it ends in the agent's turn."""
        ...


class Reads(Protocol):
    """A scorer on an engine of this process, or replicas of it: see `agentrm.models.scorers.Scorer`."""

    def read(self, inputs: list[Input], per: Per) -> Awaitable[Sequence[Reading]]:
        """One `Reading` per input."""
        ...


class EngineScoring:
    """A `Scoring` over engines."""

    def __init__(self, scorer: Reads) -> None:
        self._scorer = scorer

    async def whole(self, conversation: Conversation) -> float:
        """See `Scoring`."""
        (reading,) = await self._scorer.read([conversation], Per.input)
        return reading.values[-1]

    async def turns(self, conversation: Conversation) -> list[float]:
        """See `Scoring`."""
        (reading,) = await self._scorer.read([conversation], Per.turn)
        return list(reading.values)


@dataclass(frozen=True, slots=True)
class Values:
    """`steps[k]`: the value after k turns of the agent and what answered them, the last one that of the whole
    conversation. None for what no model reads, a turn without an answer that another one follows, and for what this
    model cannot read; `refused` then says why.
    """

    steps: list[float | None]
    refused: str = ""


async def step_values(scoring: Scoring, conversation: Conversation) -> Values:
    """All values of a conversation, or those of as much of its beginning as the model can read."""
    _, turns = runs(conversation.messages)
    steps: list[float | None] = [None] * (len(turns) + 1)
    ends = environment_turns(conversation.messages)
    if ends[-1:] != [len(turns)]:
        ends = [*ends, len(turns)]
    refused = ""

    async def fits(end: int) -> bool:
        nonlocal refused
        part = conversation if end == len(turns) else conversation.beginning(end)
        try:
            values = await scoring.turns(part)
        except InputRefused as error:
            refused = refused or str(error)
            return False
        for number, value in zip(ends, values, strict=False):
            steps[number] = value if isfinite(value) else None
        return True

    if not await fits(ends[-1]):
        low, high = 0, len(ends) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if await fits(ends[middle]) else (low, middle)
    return Values(steps, refused)


async def whole_value(scoring: Scoring, conversation: Conversation) -> Values:
    """The value of a whole conversation alone."""
    try:
        value = await scoring.whole(conversation)
        return Values([value if isfinite(value) else None])
    except InputRefused as error:
        return Values([None], str(error))


def characters(message: Message) -> int:
    """How much a message says: the characters of its content, and of the names and arguments of its calls."""
    calls = (call["function"] for call in message.get("tool_calls", ()))
    written = sum(len(call["name"]) + len(_text(call.get("arguments"))) for call in calls)
    return len(text_of(message)) + written


def lengths(messages: Sequence[Message]) -> list[int]:
    """The characters of a conversation up to each of the places that `Values.steps` are of."""
    opening, turns = runs(messages)
    totals = [sum(map(characters, opening))]
    for turn in turns:
        totals.append(totals[-1] + sum(map(characters, (turn.agent, *turn.answers))))
    return totals


def _text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)

"""The best of several candidates for an agent's next turn, for agents in the same process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentrm.core.errors import UserError
from agentrm.core.messages import Conversation, Message, checked
from agentrm.service.client import AsyncScoringClient, ScoringClient


class Best(NamedTuple):
    """The candidate that was chosen, its number, and the values of all."""

    message: Message
    chosen: int
    values: list[float]


def best_of(
    candidates: Sequence[Message | str], conversation: Conversation | Sequence[Message], client: ScoringClient
) -> Best:
    """The candidate whose conversation has the greatest value, the first of equals. A text is an agent's turn of these
    words. Raises UserError without candidates, InputRefused for what no model reads, and ServiceError.
    """
    ended = _ended(candidates, conversation)
    return _best(ended, client.score(ended))


async def async_best_of(
    candidates: Sequence[Message | str], conversation: Conversation | Sequence[Message], client: AsyncScoringClient
) -> Best:
    """`best_of` for asyncio."""
    ended = _ended(candidates, conversation)
    return _best(ended, await client.score(ended))


def _ended(candidates: Sequence[Message | str], conversation: Conversation | Sequence[Message]) -> list[Conversation]:
    if not candidates:
        raise UserError("there is no candidate to choose: give at least one")
    before = Conversation.of(conversation)
    turns = [
        {"role": "assistant", "content": candidate} if isinstance(candidate, str) else candidate
        for candidate in candidates
    ]
    return [Conversation([*before.messages, turn], before.tools) for turn in checked(turns, "candidates")]


def _best(ended: Sequence[Conversation], values: list[float]) -> Best:
    chosen = values.index(max(values))
    return Best(ended[chosen].messages[-1], chosen, values)

"""Conversations that exceed a model's context, shortened until they fit: one rule in training, scoring and search.

What is left ends in the same turn and keeps the tools, everything before the agent's first turn, and that last turn's
step. It depends on the conversation and the context alone, never on what was read before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from agentrm.config.schema import Overflow
from agentrm.core.messages import AGENT, Conversation, Message, runs, text_of

GAP = "[...]"
"""Stands where an answer of the environment was cut."""


def shortened(conversation: Conversation, rule: Overflow, fits: Callable[[Conversation], bool]) -> Conversation | None:
    """The conversation with as little left out as the rule finds necessary, None where no more of it may go: of the
    agent's words `truncate_observations` leaves out none, of the task neither rule does. `fits` says whether a model
    can read one; it is asked a number of times that grows with the logarithm of the conversation's length.
    """
    opening, steps = runs(conversation.messages)
    if rule is Overflow.drop_middle:
        most = len(steps) - 1

        def left(number: int) -> list[Message]:
            kept = ([step.agent, *step.answers] for step in steps[number:])
            return [*_told(opening, number), *chain.from_iterable(kept)]
    else:
        answers = [text_of(answer) for step in steps for answer in step.answers]
        most = max(map(len, answers), default=0)

        def left(number: int) -> list[Message]:
            taken, kept = 0, []
            for message in conversation.messages:
                taken += message["role"] == AGENT
                answer = taken and message["role"] != AGENT
                kept.append(_cut(message, most - number) if answer else message)
            return kept

    if rule is Overflow.refuse or most < 1 or not fits(Conversation(left(most), conversation.tools)):
        return None
    least, enough = 0, most
    while enough - least > 1:
        middle = (least + enough) // 2
        if fits(Conversation(left(middle), conversation.tools)):
            enough = middle
        else:
            least = middle
    return Conversation(left(enough), conversation.tools)


def _told(opening: Sequence[Message], number: int) -> list[Message]:
    """What stands before the agent's first turn, and how many of the agent's turns behind it are left out."""
    if not opening:
        return []
    last = opening[-1] | {"content": f"{text_of(opening[-1])}\n[{number} turns left out]"}
    return [*opening[:-1], last]


def _cut(message: Message, kept: int) -> Message:
    """A message whose text has `kept` characters of its own at most: its beginning and its end."""
    text = text_of(message)
    if len(text) <= kept:
        return message
    end = text[len(text) - kept // 2 :]
    return message | {"content": f"{text[: kept - kept // 2]}{GAP}{end}"}

"""Conversations as what they add to earlier ones: an agent's state is asked for again and again, a step longer each
time, and most of a long request is what the service has read before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from agentrm.core.errors import AgentRMError
from agentrm.core.messages import AGENT, Conversation, Message, text_of
from agentrm.rendering.steps import WORDS, Key, key_of

_KEPT = 4096
"""Conversations that are remembered on either side."""

_CHARACTERS = 2**28
"""Of all conversations that the service remembers, as if none shared messages with another."""

_STEPS = 2
"""A conversation is looked for among those that are so many steps shorter at most."""


class UnknownBeginning(AgentRMError):
    """What a conversation continues is not there any more, or not here: it must be sent whole."""


@dataclass(frozen=True, slots=True)
class Continued:
    """The messages that follow a conversation which the service keeps as `after`."""

    after: str
    messages: list[Message]


class Kept:
    """The service's side: what clients may continue, by names that nobody else can guess."""

    def __init__(self) -> None:
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()
        self._characters = 0

    def whole(self, given: Conversation | Continued) -> Conversation:
        """A conversation with its beginning. Raises UnknownBeginning."""
        if isinstance(given, Conversation):
            return given
        beginning = self._conversations.get(given.after)
        if beginning is None:
            raise UnknownBeginning("what a conversation is to come after is not kept here: send it whole")
        self._conversations.move_to_end(given.after)
        return Conversation([*beginning.messages, *given.messages], beginning.tools)

    def keep(self, conversation: Conversation) -> str:
        """The name that a conversation is kept by from now on, if there is room for it at all."""
        name = uuid4().hex
        self._conversations[name] = conversation
        self._characters += _length(conversation)
        while len(self._conversations) > _KEPT or self._characters > _CHARACTERS:
            _, oldest = self._conversations.popitem(last=False)
            self._characters -= _length(oldest)
        return name


def _length(conversation: Conversation) -> int:
    """In characters, calls and thoughts included."""
    return sum(
        len(text_of(message)) + sum(len(str(message[name])) for name in message.keys() - {"role", "content"})
        for message in conversation.messages
    )


class Sent:
    """The client's side: what the service keeps of what it was sent, as long as it `asks` for that."""

    def __init__(self, asks: bool = True) -> None:
        self.asks = asks
        self._names: OrderedDict[tuple[Key, str], str] = OrderedDict()

    def form(self, conversation: Conversation) -> Any:
        """A conversation as a request holds it, without the beginning that is kept."""
        messages = list(conversation.messages)
        key, tools = key_of(messages), repr(conversation.tools)
        place, steps = len(messages), 0
        while place > 1 and steps < _STEPS:
            place -= 1
            if messages[place]["role"] == AGENT:
                steps += 1
                if name := self._names.get((key[: WORDS * place], tools)):
                    return {"after": name, "messages": messages[place:]}
        return {"messages": messages, "tools": list(conversation.tools)} if conversation.tools else messages

    def learn(self, conversations: Sequence[Conversation], names: Sequence[str]) -> None:
        """Take up the names that an answer gives, in the order of its request."""
        if not self.asks:
            return
        for conversation, name in zip(conversations, names, strict=True):
            self._names[key_of(conversation.messages), repr(conversation.tools)] = name
            if len(self._names) > _KEPT:
                self._names.popitem(last=False)

    def give_up(self) -> None:
        """Send everything whole from now on."""
        self.asks = False
        self._names.clear()

"""The text of a conversation step by step, where a template only appends: each step is written once, and only once.

A step is a message of the agent and what answers it. Its text is read off a short conversation that ends with it. That
this is what it adds to a long one is seen once for each shape of a conversation, by the template's text for the whole:
a shape is which kinds of messages it has, and a kind whatever of a message a template may look at beside its words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT, Message, Tool, text_of
from agentrm.rendering.template import ChatTemplate
from agentrm.rendering.tokens import Tokens

Key = tuple[Any, ...]
"""Messages as a key of a cache."""


_NOTHING: Key = (False, False, False)
"""Of a text in which no template looks for anything."""


class Piece(NamedTuple):
    """What a step adds to a conversation; the agent wrote `text[begin:end]`, end of turn included."""

    text: str
    begin: int
    end: int


@dataclass(eq=False, slots=True)
class Shape:
    """What is known of conversations of one shape. `following`: the shape after each kind of step, None where the
    template changes what is there. `opening` asks for the agent's turn, once it is `asked`; None where it cannot be
    told without all of the conversation.
    """

    base: _Base
    kinds: frozenset[Key]
    following: dict[tuple[Key, int], Shape | None] = field(default_factory=dict)
    opening: str | None = None
    asked: bool = False


@dataclass(eq=False, frozen=True, slots=True)
class _Base:
    """The short conversation that steps are read off behind: its messages, tools and text, and what asks for a turn."""

    messages: list[Message]
    tools: Sequence[Tool]
    text: str
    opening: str


class _Wrap(NamedTuple):
    """What a template writes around the words of some messages, where it looks for nothing in them. Of a step the agent
    wrote from `begin` on, until `behind` characters after its words.
    """

    parts: list[str]
    begin: int
    behind: int

    def text(self, words: Sequence[str]) -> str:
        """What the template writes of messages with other words."""
        return self.parts[0] + "".join(word + part for word, part in zip(words, self.parts[1:], strict=True))

    def __call__(self, words: Sequence[str]) -> Piece:
        return Piece(self.text(words), self.begin, len(self.parts[0]) + len(words[0]) + self.behind)


WORDS = 2
"""How many words of a key stand for a message."""


def key_of(messages: Sequence[Message]) -> Key:
    """Equal for equal messages only: role and words of each that has no more."""
    key: list[str | None] = []
    for message in messages:
        content = message["content"]
        if len(message) == 2 and content.__class__ is str:
            key += (message["role"], content)
        else:
            key += (None, repr(message))
    return tuple(key)


class Steps:
    """The pieces of a template's conversations."""

    def __init__(self, template: ChatTemplate, tokens: Tokens) -> None:
        self._template = template
        self._tokens = tokens
        self._shapes: dict[Key, Shape] = {}
        self._bases: dict[Key, _Base | None] = {}
        self._wraps: dict[tuple[_Base, Key, int], _Wrap | None] = {}

    def begin(self, messages: Sequence[Message], tools: Sequence[Tool], offered: str) -> tuple[Shape, str] | None:
        """The shape and the text of an opening with tools, which `offered` names; None where no step can be read off.
        Raises InputRefused.
        """
        kind = self._kind(messages)
        if (offered, kind) not in self._bases:
            self._bases[offered, kind] = self._find_base(messages, tools)
        base = self._bases[offered, kind]
        if base is None:
            return None

        def write(opening: Sequence[Message]) -> Piece:
            return Piece(self._template.text(opening, tools), 0, 0)

        wrap = self._wrap((base, kind, len(messages)), messages, write)
        text = write(messages).text if wrap is None else wrap.text(_words(messages))
        return self._shape(base, frozenset(), kind, 0), text

    def follow(
        self, shape: Shape, messages: Sequence[Message], place: int, end: int, number: int
    ) -> tuple[Shape, Piece] | None:
        """The shape after step `number`, which is `messages[place:end]`, and its piece; None where the template writes
        the whole otherwise.
        """
        step = messages[place:end]
        kind = self._kind(step)
        piece = self._piece(shape.base, step, kind)
        if piece is None:
            return None
        # Twice as many steps are another shape, for what a template does with a long conversation only.
        length = number.bit_length()
        if (kind, length) not in shape.following:
            adds = self._adds(piece, messages[:place], step, shape.base.tools)
            following = self._shape(shape.base, shape.kinds | {kind}, kind, length) if adds else None
            shape.following[kind, length] = following
        next_shape = shape.following[kind, length]
        return None if next_shape is None else (next_shape, piece)

    def opening(self, shape: Shape, messages: Sequence[Message]) -> str | None:
        """What asks for the agent's turn behind a conversation of this shape; None where that changes what is there."""
        if not shape.asked:
            state = self._template.text(messages, shape.base.tools)
            asked = self._template.text(messages, shape.base.tools, opened=True)
            shape.opening = asked[len(state) :] if asked.startswith(state) else None
            shape.asked = True
        return shape.opening

    def _shape(self, base: _Base, kinds: frozenset[Key], last: Key, length: int) -> Shape:
        return self._shapes.setdefault((base, kinds, last, length), Shape(base, kinds))

    def _adds(self, piece: Piece, before: Sequence[Message], step: Sequence[Message], tools: Sequence[Tool]) -> bool:
        with suppress(InputRefused):
            return self._template.text([*before, *step], tools) == self._template.text(before, tools) + piece.text
        return False

    def _find_base(self, messages: Sequence[Message], tools: Sequence[Tool]) -> _Base | None:
        short: list[Message] = [{"role": message["role"], "content": "a"} for message in messages]
        with suppress(InputRefused):
            text = self._template.text(short, tools)
            opened = self._template.text(short, tools, opened=True)
            return _Base(short, tools, text, opened[len(text) :] if opened.startswith(text) else "")
        return None

    def _piece(self, base: _Base, step: Sequence[Message], kind: Key) -> Piece | None:
        """What a step adds behind the short conversation; None where it changes that."""

        def write(messages: Sequence[Message]) -> Piece | None:
            return self._find_piece(base, messages)

        wrap = self._wrap((base, kind, len(step)), step, write)
        # A turn that begins with more of what asks for it begins later.
        if wrap is None or step[0]["content"][:1] in base.opening[wrap.begin : wrap.begin + 1]:
            return write(step)
        return wrap(_words(step))

    def _wrap(
        self,
        known: tuple[_Base, Key, int],
        messages: Sequence[Message],
        write: Callable[[Sequence[Message]], Piece | None],
    ) -> _Wrap | None:
        """What `write` has around the words of messages of a kind and number, if the template looks for nothing in
        them.
        """
        if known not in self._wraps:
            self._wraps[known] = self._find_wrap(messages, write) if all(map(self._plain, messages)) else None
        return self._wraps[known]

    def _find_wrap(
        self, messages: Sequence[Message], write: Callable[[Sequence[Message]], Piece | None]
    ) -> _Wrap | None:
        marks = [f"mark{i}mark" for i in range(len(messages))]
        piece = write([message | {"content": mark} for message, mark in zip(messages, marks, strict=True)])
        if piece is None or any(piece.text.count(mark) != 1 for mark in marks):
            return None
        parts = re.split("|".join(marks), piece.text)
        wrap = _Wrap(parts, piece.begin, piece.end - len(parts[0]) - len(marks[0]))
        own = write(messages)
        return wrap if own is not None and wrap.text(_words(messages)) == own.text else None

    def _plain(self, message: Message) -> bool:
        content = message["content"]
        return len(message) == 2 and isinstance(content, str) and self._looks(content) == _NOTHING

    def _find_piece(self, base: _Base, step: Sequence[Message]) -> Piece | None:
        try:
            whole = self._template.text([*base.messages, *step], base.tools)
        except InputRefused:
            return None
        if not whole.startswith(base.text):
            return None
        text = whole[len(base.text) :]
        begin = self._tokens.common(text, base.opening)
        return Piece(text, begin, self._end_of_turn(text, begin, base, step))

    def _end_of_turn(self, text: str, begin: int, base: _Base, step: Sequence[Message]) -> int:
        """Where the agent's turn ends in the text of a step, its token for that included."""
        words = _last_words(step[0])
        place = text.find(words, begin)
        after = begin if place < 0 else place + len(words)
        if len(step[0]) > 2:
            # Calls and thoughts have special tokens of their own: the turn goes on as far as it does without answers.
            alone = self._template.text([*base.messages, step[0]], base.tools)
            shared = self._tokens.common(text, alone[len(base.text) :])
            if shared > after and (inside := self._tokens.last_special(text, after, shared)):
                return inside
        return self._tokens.next_special(text, after)

    def written(self, text: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """The characters that the agent wrote of a conversation's whole text, as far as its words are found there."""
        ranges = []
        place = 0
        for message in messages:
            words = _last_words(message)
            start = text.find(words, place)
            if message["role"] == AGENT:
                first = _first_words(message)
                begin = text.find(first, place)
                begin = place if begin < 0 else begin
                end = self._tokens.next_special(text, max(begin, place if start < 0 else start + len(words)))
                ranges.append((begin, end))
                place = end
            elif start >= 0:
                place = start + len(words)
        return ranges

    def _kind(self, messages: Sequence[Message]) -> Key:
        """What of messages a template may look at: runs of one kind count as one or several."""
        kinds: list[Any] = []
        for message in messages:
            kind: Key = message["role"], self._looks(text_of(message))
            if len(message) > 2 or not isinstance(message["content"], str):
                calls = message.get("tool_calls", ())
                others = message.get("reasoning_content") or "", json.dumps(calls)
                kind += type(message["content"]), tuple(sorted(message)), min(len(calls), 2), *map(self._looks, others)
            if kinds[-1:] == [kind]:
                kinds.append("more")
            elif kinds[-2:] != [kind, "more"]:
                kinds.append(kind)
        return tuple(kinds)

    def _looks(self, text: str) -> Key:
        """What a template may find in a text: nothing, white space at its ends, and what it names, also there."""
        if not text:
            return ()
        if not (text[0].isspace() or text[-1].isspace() or self._template.sought.search(text)):
            return _NOTHING
        names = {
            (match[0], match.start() == 0, match.end() == len(text)) for match in self._template.sought.finditer(text)
        }
        return (text[0].isspace(), text[-1].isspace(), not text.strip(), *sorted(names))


def _words(messages: Sequence[Message]) -> list[str]:
    return [message["content"] for message in messages]


def _first_words(message: Message) -> str:
    """What an agent's message begins with, where its template shows all of it."""
    return text_of(message).strip() or _last_words(message)


def _last_words(message: Message) -> str:
    """What an agent's message ends with, if its template writes it last."""
    if calls := message.get("tool_calls"):
        return calls[-1]["function"]["name"]
    return text_of(message).strip()

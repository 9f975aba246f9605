"""A tokenizer's chat template, one turn at a time: the ids are those which the template gives for the conversation.

A turn is tokenised together with the text before it, back to the last added token (`<|im_end|>`, `</s>`): no later text
changes the ids before that one, so they are final, and what stays open of a conversation is short. Text inside a turn
never becomes a special token, whatever it says.
"""

from __future__ import annotations

import json
import re
import string
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from secrets import token_hex
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from jinja2 import Environment, TemplateError
from tokenizers import Tokenizer

from agentrm.core.errors import InputRefused, ModelError
from agentrm.core.messages import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DAY = date(2024, 7, 26)
"""What every template shows that asks for today's date: the day that Llama's templates name where they know none."""

_MARKS = "mark0mark", "mark1mark", "mark2mark"
_PROBES = (
    ("go to box 12", "Thought: it is near\nAction: go", "you see 3 boxes", "take box 1", "done"),
    (" a \n", "\n b ", "", "", "\n\n", "<think>\nwhy\n</think>\n\nleft", "1 été 🙂 ", "  x", "\ty"),
    ("Go", "<think>why</think>left", "<tool_response>\na wall\n</tool_response>", "right", "a door " * 100),
)
"""Texts of turns, after each of which the ids are compared with the template's own."""
_ENDS = ("go", *(f"{character}a {character}" for character in string.printable for _ in range(2)))
"""One conversation more, whose turns begin and end with what tokenizers join with the text around them."""
_SHOWN = 40

Place = Literal["first", "user", "agent", "last"]
"""A turn's place in its conversation: the user's first turn, a later one, the agent's, and the agent's at the end."""


def place_of(role: str, index: int, count: int) -> Place:
    """The place of turn `index` of `count`."""
    if role == "user":
        return "user" if index else "first"
    return "agent" if index < count - 1 else "last"


def fixed_day(template: str) -> str:
    """The template with `DAY` in place of today, for any library that renders it; others as they are."""
    if "strftime_now" not in template or "macro strftime_now" in template:
        return template
    directives = sorted(set(re.findall(r"(?<!{)%-?[aAbBcdDeFhjmuUVwWxyY]", template)))
    replaced = "".join(f' | replace("{each}", "{DAY.strftime(each)}")' for each in directives)
    # The line break after a macro alone on its line is not rendered, so all other text stays as it was.
    return f"{{%- macro strftime_now(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro %}}\n{template}"


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The end of a conversation, from its last added token on: the text, its ids, and which of them the agent wrote.

    One template makes one of equal ones, so that a cache finds it fast.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    agent: tuple[bool, ...] = ()


START = Tail()
"""That of a conversation without turns."""


class Turn(NamedTuple):
    """What a turn adds to a conversation: ids that are final, which of them the agent wrote, and the new tail."""

    ids: list[int]
    agent: list[bool]
    tail: Tail


class _Frame(NamedTuple):
    """What stands around a turn when its text is read off: messages, and the template's text of them. `closing` is what
    the template writes after the words of an agent's turn.
    """

    before: list[Message]
    after: list[Message]
    text_before: str
    text_after: str
    closing: str = ""


class _Wrap(NamedTuple):
    """What a template writes around the text of a turn, and whether it strips the text."""

    before: str
    after: str
    strips: bool

    def __call__(self, text: str) -> str:
        return self.before + (text.strip() if self.strips else text) + self.after


class ChatTemplate:
    """The `template` of a tokenizer, for conversations that alternate user and assistant turns, the user's first.

    Raises ModelError at once, with the reason, for a template under which a state's ids are no prefix of its
    successor's, or turn by turn are others than the whole's. A state ends with the user's turn: what a template writes
    when the agent's is the last may change in the successor.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self._tokenizer = tokenizer
        self._template = template
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path} has no tokenizer.json: save it as a fast tokenizer"
            )
        self._tail = lru_cache(maxsize=16384)(Tail)
        self._backend = self._rename_special_tokens()
        probes = [_conversation(*texts) for texts in _PROBES]
        opening = self._find_opening()
        for probe in probes:
            self._check_that_it_appends(probe, opening)
        self._opening = self._named(opening)
        self._frames = self._find_frames()
        self._sought = _any_of(self._find_sought())
        self._wraps = {place: wrap for place in get_args(Place) if (wrap := self._find_wrap(place))}
        for probe in probes:
            for count in range(1, len(probe) + 1):
                self._compare_with_the_whole(probe[:count])
        self._compare_with_the_whole(_conversation(*_ENDS))

    def turn(self, tail: Tail, place: Place, text: str) -> Turn:
        """Add a turn to the conversation that ends with `tail`. Raises InputRefused when that changes what is there, or
        when the template does not take the text.
        """
        whole = tail.text + self._text(place, text)
        ids, spans = self._encode(whole)
        held = len(tail.ids)
        if tuple(ids[:held]) != tail.ids:
            raise InputRefused(
                f"the tokenizer of {self._tokenizer.name_or_path} joins the end of a turn with the next one in "
                f"{_excerpt(self._plain(whole), len(self._plain(tail.text)))}, so a state would not be a prefix of its "
                "successor: use a chat template that sets a special token between turns"
            )
        agent = [*tail.agent, *[False] * (len(ids) - held)]
        if place in ("agent", "last"):
            start = max(held, bisect_left(spans, (len(tail.text) + len(self._opening), 0)))
            stop = self._end_of_turn(whole, ids, spans, len(whole) - len(self._frames[place].closing))
            agent[start:stop] = [True] * (stop - start)
        cut = next((i for i in reversed(range(len(ids))) if self._is_added(ids[i], whole, spans[i])), None)
        if cut is None:
            return Turn([], [], self._tail(whole, tuple(ids), tuple(agent)))
        return Turn(ids[:cut], agent[:cut], self._tail(whole[spans[cut][0] :], tuple(ids[cut:]), tuple(agent[cut:])))

    def opened(self, tail: Tail) -> list[int]:
        """The ids of a conversation's tail and of what asks for the agent's turn."""
        return self._encode(tail.text + self._opening)[0]

    def stop_ids(self) -> list[int]:
        """The tokens that end an agent's turn. Raises ModelError when none does, or when what a policy writes that
        writes turns as the template does would be read as something else.
        """
        found = set()
        said = self._read(self._encode(_MARKS[1])[0])
        state = self.turn(START, "first", _MARKS[0]).tail
        for place in ("agent", "last"):
            ids, agent, tail = self.turn(state, place, _MARKS[1])
            pairs = zip([*ids, *tail.ids], [*agent, *tail.agent], strict=True)
            *words, end = [token for token, written in pairs if written]
            if end not in self._added:
                raise self._refusal("ends an answer with no token of its own, so a policy would not stop")
            if self._read(words) != said:
                raise self._refusal(f"adds to an answer: a policy that says {said!r} would say {self._read(words)!r}")
            found.add(end)
        return sorted(found)

    def _read(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _rename_special_tokens(self) -> Tokenizer:
        """The tokenizer, but that its special tokens have names which no text holds; ids are the same."""
        key = token_hex(8)
        known = self._tokenizer.added_tokens_decoder
        standing = set(self._tokenizer.all_special_tokens)
        # A padding token such as "!" is what any text says too.
        names = {
            token.content: f"<{key}:{number}>"
            for number, token in known.items()
            if len(token.content) > 1 and (token.special or token.content in standing)
        }
        self._named = _replacing(names)
        self._plain = _replacing({name: content for content, name in names.items()})
        # While a template reads a turn, what looks like a special token in it has yet another name.
        hidden = {content: f"[{name}]" for content, name in names.items()}
        self._hidden = _replacing(hidden)
        self._shown = _replacing({name: content for content, name in hidden.items()})
        self._added = {number: names.get(token.content, token.content) for number, token in known.items()}
        return _renamed(self._tokenizer.backend_tokenizer, names)

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of text whose special tokens are renamed, and the characters that each stands for."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def _is_added(self, token: int, text: str, span: tuple[int, int]) -> bool:
        """Whether an id comes from an added token's own text: a vocabulary may give it to other text too, such as that
        of "▁▁" to two spaces.
        """
        return token in self._added and self._added[token] in text[span[0] : span[1]]

    def _end_of_turn(self, text: str, ids: Sequence[int], spans: Sequence[tuple[int, int]], end: int) -> int:
        """The number of ids up to the added token that ends a turn whose words end at character `end`, and with it."""
        after = bisect_left(spans, (end, 0))
        for i in range(max(after - 1, 0), len(ids)):
            if spans[i][1] > end and self._is_added(ids[i], text, spans[i]):
                return i + 1
        return after

    def _text(self, place: Place, text: str) -> str:
        """What the template makes of a turn, special tokens renamed."""
        wrap = self._wraps.get(place)
        return self._templated(place, text) if wrap is None or self._sought.search(text) else wrap(text)

    def _templated(self, place: Place, text: str) -> str:
        """`_text` by the template itself."""
        frame = self._frames[place]
        role = "assistant" if place in ("agent", "last") else "user"
        whole = self._apply([*frame.before, {"role": role, "content": self._hidden(text)}, *frame.after])
        if not (whole.startswith(frame.text_before) and whole.endswith(frame.text_after)):
            raise InputRefused(
                f"the chat template of {self._tokenizer.name_or_path} rewrites other turns where one is "
                f"{text[:_SHOWN]!r}: use a template that only appends turns"
            )
        return self._shown(self._named(whole[len(frame.text_before) : len(whole) - len(frame.text_after)]))

    def _apply(self, messages: Sequence[Message], generate: bool = False) -> str:
        try:
            return self._tokenizer.apply_chat_template(
                list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=generate
            )
        except (TemplateError, TypeError) as error:
            raise InputRefused(
                f"the chat template of {self._tokenizer.name_or_path} takes no conversation of text turns: {error}"
            ) from error

    def _find_opening(self) -> str:
        """What asks for the agent's turn."""
        conversation = _conversation(_MARKS[0])
        state, asked = self._apply(conversation), self._apply(conversation, generate=True)
        self._require_prefix(state, asked)
        return asked[len(state) :]

    def _find_frames(self) -> dict[Place, _Frame]:
        user, agent, following = _conversation(*_MARKS)
        state, answered, whole = self._apply([user]), self._apply([user, agent]), self._apply([user, agent, following])
        if not all(mark in whole for mark in _MARKS):
            raise self._refusal("leaves out the text of a turn")
        last = answered.rpartition(_MARKS[1])[2]
        rest = whole.rpartition(_MARKS[1])[2]
        # Where the end of an answer changes in the successor, its own token says how far it goes.
        tokens = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.content in rest]
        end = min((rest.index(token) + len(token) for token in tokens), default=0)
        closing = last if rest.startswith(last) else rest[:end]
        rest = rest[len(closing) :]
        return {
            "first": _Frame([], [], "", ""),
            "user": _Frame([user, agent], [], whole.removesuffix(rest), ""),
            "agent": _Frame([user], [following], state, rest, self._named(closing)),
            "last": _Frame([user], [], state, "", self._named(last)),
        }

    def _find_sought(self) -> set[str]:
        """What a template may look for in a turn, such as `</think>`: all that it names but words."""
        named = {token.value for token in Environment().lexer.tokenize(self._template) if token.type == "string"}
        return {text.strip() for text in named if len(text.strip()) > 2 and re.search(r"[^\w\s]", text)}

    def _find_wrap(self, place: Place) -> _Wrap | None:
        """What is written around text in which the template looks for nothing, if that is all it does."""
        before, _, after = self._templated(place, _MARKS[0]).partition(_MARKS[0])
        texts = [text for texts in _PROBES for text in texts if not self._sought.search(text)]
        found = {text: self._templated(place, text) for text in texts}
        wraps = (_Wrap(before, after, strips) for strips in (False, True))
        return next((wrap for wrap in wraps if all(wrap(text) == shown for text, shown in found.items())), None)

    def _check_that_it_appends(self, conversation: Sequence[Message], opening: str) -> None:
        state = ""
        for count, message in enumerate(conversation, 1):
            whole = self._apply(conversation[:count])
            self._require_prefix(state, whole)
            if message["role"] == "user":
                state = whole
                self._require_prefix(state + opening, self._apply(conversation[:count], generate=True))
            elif not whole.startswith(state + opening):
                answer = whole[len(state) :][: len(opening) + _SHOWN]
                raise self._refusal(f"asks for an answer with {opening!r}, but shows one as {answer!r}")

    def _compare_with_the_whole(self, conversation: Sequence[Message]) -> None:
        ids: list[int] = []
        tail = START
        for index, message in enumerate(conversation):
            place = place_of(message["role"], index, len(conversation))
            more, _, tail = self.turn(tail, place, message["content"])
            ids += more
        found = {False: [*ids, *tail.ids]}
        if conversation[-1]["role"] == "user":
            found[True] = ids + self.opened(tail)
        for generate, ours in found.items():
            theirs = self._tokenizer.apply_chat_template(
                list(conversation), chat_template=self._template, add_generation_prompt=generate
            )["input_ids"]
            if ours != theirs:
                start = max(_common(ours, theirs) - 4, 0)
                text = self._tokenizer.decode(theirs[start : start + 8])
                raise self._refusal(f"has other tokens for a whole conversation than turn by turn (at {text!r})")

    def _require_prefix(self, state: str, successor: str) -> None:
        if not successor.startswith(state):
            place = _common(state, successor)
            before, after = _excerpt(state, place), _excerpt(successor, place)
            raise self._refusal(f"rewrites earlier turns: {before} becomes {after} when more follows")

    def _refusal(self, what: str) -> ModelError:
        return ModelError(
            f"the chat template of {self._tokenizer.name_or_path} {what}: use a template that only appends turns"
        )


def _conversation(*texts: str) -> list[Message]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """The length of the beginning that two sequences share."""
    shortest = min(len(one), len(other))
    return next((i for i in range(shortest) if one[i] != other[i]), shortest)


def _excerpt(text: str, place: int) -> str:
    return repr(text[max(place - _SHOWN // 2, 0) : place + _SHOWN // 2])


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """The tokenizer with other names for some tokens, which adds none of its own."""
    described = json.loads(tokenizer.to_str())
    # The last one would also move the places of tokens.
    described |= {"truncation": None, "padding": None, "post_processor": None}
    for token in described["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    # A vocabulary may hold special tokens too, and would find them in any text.
    model = described["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): number for piece, number in vocabulary.items()}
    else:
        model["vocab"] = [(names.get(piece, piece), score) for piece, score in vocabulary]
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if "".join(pair) not in names]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return Tokenizer.from_str(json.dumps(described))


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Any of some texts, the longest first; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def _replacing(texts: Mapping[str, str]) -> Callable[[str], str]:
    """What replaces each key in a text by its value."""
    pattern = _any_of(texts)
    return lambda text: pattern.sub(lambda found: texts[found[0]], text)

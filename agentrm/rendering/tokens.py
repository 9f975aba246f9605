"""A tokenizer that no text can trick: what looks like a special token inside a turn stays text.

Text is encoded in stretches, each from one special token (`<|im_end|>`, `</s>`) to the next: no other text changes a
stretch's ids, so those of a conversation are encoded once.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple

from tokenizers import Tokenizer

from agentrm.core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST_NAME = 32
_OF_THOUGHTS = re.compile(r"think|thought|reason", re.IGNORECASE)


class Stretch(NamedTuple):
    """The ids of a stretch of text, and the character at which each begins where the agent wrote some of it."""

    ids: tuple[int, ...]
    starts: array[int]


class Encoded(NamedTuple):
    """A text's ids, and of each range of its characters that was `written` by the agent that of the ids which begin in
    it. The last stretch begins at character `cut` and at id `settled`.
    """

    ids: list[int]
    written: list[tuple[int, int]]
    cut: int
    settled: int


class Tokens:
    """A fast tokenizer whose special tokens have secret names: `named` gives text that a template wrote these names,
    unless it was `hidden` before, which `shown` undoes. Raises ModelError for a tokenizer without tokenizer.json.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path} has no tokenizer.json: save it as a fast tokenizer"
            )
        key = token_hex(8)
        known = tokenizer.added_tokens_decoder
        standing = set(tokenizer.all_special_tokens)
        # A padding token such as "!" is what any text says too.
        special = {
            number: token
            for number, token in known.items()
            if len(token.content) > 1 and (token.special or token.content in standing)
        }
        names = {token.content: f"<{key}:{number}>" for number, token in special.items()}
        self.ids = {names[token.content]: number for number, token in special.items()}
        self.named = _replacing(names)
        self.plain = _replacing({name: content for content, name in names.items()})
        hidden = {content: f"[{name}]" for content, name in names.items()}
        self._hidden = _replacing(hidden)
        # An agent's turn may hold its thoughts within such tokens, which templates look for.
        self._hidden_from_agents = _replacing({c: name for c, name in hidden.items() if not _OF_THOUGHTS.search(c)})
        self._shown = _replacing({name: content for content, name in hidden.items()})
        self._key = key
        self._backend = _renamed(tokenizer.backend_tokenizer, names)
        # A token that takes white space before it, or is looked for in normalised text, parts nothing.
        parting = [names[t.content] for t in special.values() if not (t.lstrip or t.normalized or t.single_word)]
        self._parting = any_of(parting)
        self._special = any_of(names.values())
        self._standing = any_of(names)
        self._headers = re.compile(rf"(?:{self._standing.pattern})\w*(?:{self._standing.pattern})")
        self.encode = lru_cache(maxsize=32768)(self._encode)

    def hidden(self, text: str, of_the_agent: bool) -> str:
        """Text in which nothing looks like a special token."""
        return self._hidden_from_agents(text) if of_the_agent else self._hidden(text)

    def bare(self, text: str) -> str:
        """Decoded text without special tokens, and without the words that are set between two of them."""
        return self._standing.sub("", self._headers.sub("", text))

    def shown(self, text: str) -> str:
        """Text whose hidden parts read as they were."""
        return self._shown(text) if f"[<{self._key}" in text else text

    def encoded(self, text: str, written: Sequence[tuple[int, int]] = ()) -> Encoded:
        """A text in stretches whose ids are those of the whole: a new one begins wherever a parting token stands. The
        agent has `written` some ranges of characters.
        """
        ids: list[int] = []
        marks = [(0, 0)] * len(written)
        cut = settled = start = 0
        for end in (*[match.start() for match in self._parting.finditer(text, 1)], len(text)):
            inside = [n for n, (begin, behind) in enumerate(written) if begin < end and behind > start]
            stretch = self.encode(text[start:end], bool(inside))
            cut, settled = start, len(ids)
            for n in inside:
                begin, behind = written[n]
                first = marks[n][0] if begin < start else settled + bisect_left(stretch.starts, begin - start)
                marks[n] = first, settled + bisect_left(stretch.starts, behind - start)
            ids += stretch.ids
            start = end
        return Encoded(ids, marks, cut, settled)

    def common(self, one: str, other: str) -> int:
        """The length of the beginning that two texts share, with special tokens in it as a whole only."""
        shortest = min(len(one), len(other))
        end = next((i for i in range(shortest) if one[i] != other[i]), shortest)
        cut = (match for match in self._special.finditer(one, max(0, end - _LONGEST_NAME)) if match.end() > end)
        return min(end, next((match.start() for match in cut), end))

    def next_special(self, text: str, start: int) -> int:
        """Where the first special token from a character on ends; that character where there is none."""
        match = self._special.search(text, start)
        return match.end() if match else start

    def last_special(self, text: str, start: int, end: int) -> int:
        """Where the last special token of a range ends; 0 where there is none."""
        return max((match.end() for match in self._special.finditer(text, start, end)), default=0)

    def _encode(self, stretch: str, written: bool) -> Stretch:
        encoding = self._backend.encode(stretch, add_special_tokens=False)
        # Reading where all ids begin is slow, and only the agent's words are looked for.
        starts = [start for start, _ in encoding.offsets] if written else ()
        return Stretch(tuple(encoding.ids), array("i", starts))


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


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Any of some texts, the longest first; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def _replacing(texts: Mapping[str, str]) -> Callable[[str], str]:
    """What replaces each key in a text by its value."""
    pattern = any_of(texts)
    return lambda text: pattern.sub(lambda match: texts[match[0]], text)

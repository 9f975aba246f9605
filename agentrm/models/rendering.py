"""Conversations to token ids with the model's own chat template; nothing else in AgentRM builds prompts.

Each turn is tokenised on its own and the pieces are joined, so a state's ids are a prefix of its successor's ids and
every engine can reuse its KV cache. Text inside a turn never becomes a special token, whatever it says.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from agentrm.config.schema import ActionFormat, Representation
from agentrm.errors import ContextOverflow, ModelError
from agentrm.models.actions import parse, render
from agentrm.models.state import Message
from agentrm.models.stored import settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPRESENTATION = "agentrm_representation"
"""The key of a model's config.json that says which parts of a state it was trained on, where not on all."""

COUNTING = """{%- set counted = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message["role"] == "user" and not loop.first -%}
{%- set text = (message["content"] | trim ~ "\nActions taken: " ~ loop.index0 // 2) | trim -%}
{%- set counted.messages = counted.messages + [{"role": "user", "content": text}] -%}
{%- else -%}
{%- set counted.messages = counted.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = counted.messages -%}
"""
"""What comes before the chat template of a model that reads how many actions were taken, so that any library which
renders a conversation by the template shows it the same text.
"""

# A tokenizer keeps `split_special_tokens` from one call to the next, and conversations are rendered in threads.
_ENCODING = threading.Lock()
_MARKS = [f"mark{i}mark" for i in range(5)]


@dataclass(frozen=True, slots=True)
class Rendered:
    """`ids` of a conversation; `agent[i]`: token i was written by the agent (end of turn included); `ends[m]`: index of
    the last token of message m.
    """

    ids: list[int]
    agent: list[bool]
    ends: list[int]


class Renderer:
    """Renders conversations that alternate user and assistant turns, beginning with the user.

    `kept` says which parts of them (default: all), in turns written in `form`, and whether the actions are counted; the
    first turn is always whole. Raises ModelError at once when the tokenizer has no chat template or one that rewrites
    earlier turns.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context: int,
        kept: Representation | None = None,
        form: ActionFormat = ActionFormat.react,
    ) -> None:
        if not tokenizer.chat_template:
            raise ModelError(f"the tokenizer of {tokenizer.name_or_path} has no chat template: save one with it")
        self.tokenizer = tokenizer
        self.context = context
        self._kept = kept or Representation()
        self._form = form
        self._wrap, self._generation = self._split_template()
        self._turn = lru_cache(maxsize=16384)(self._encode_turn)

    @classmethod
    def from_pretrained(cls, path: str | Path, context: int) -> Renderer:
        """Load the tokenizer that lies in a Hugging Face directory, and which parts of a state its model reads. Raises
        ModelError when there is none.
        """
        # It takes seconds, which a command that is refused before it reads any text should not.
        from transformers import AutoTokenizer

        stored = settings(Path(path)).get(REPRESENTATION) if Path(path, "config.json").is_file() else None
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path))
        except (OSError, ValueError) as error:
            raise ModelError(f"no tokenizer in {path}: {str(error).splitlines()[0]}") from error
        if stored is None:
            return cls(tokenizer, context)
        form = ActionFormat(stored.pop("action_format"))
        return cls(tokenizer, context, Representation(**stored), form)

    def render(self, messages: Sequence[Message]) -> Rendered:
        """All turns of a conversation, closed. Raises ContextOverflow."""
        ids: list[int] = []
        agent: list[bool] = []
        ends: list[int] = []
        for index, message in enumerate(messages):
            # Two messages to an action, the opening first.
            taken = index // 2 if self._kept.action_count and message["role"] == "user" else 0
            turn_ids, turn_agent = self._turn(message["role"], index == 0, message["content"], taken)
            ids += turn_ids
            agent += turn_agent
            ends.append(len(ids) - 1)
        self._fits(len(ids))
        return Rendered(ids, agent, ends)

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a state: what a reward model reads, its value at the last one."""
        return self.render(messages).ids

    def text_ids(self, text: str, special: bool, limit: int | None = None) -> list[int]:
        """The ids of text that was rendered elsewhere; with `special` the tokenizer adds its own around it. It cuts
        what is longer than `limit` tokens, none of its own where that leaves any others.
        """
        with _ENCODING:
            return self.tokenizer.encode(
                text,
                add_special_tokens=special,
                split_special_tokens=False,
                truncation=limit is not None,
                max_length=limit,
            )

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a state and the opening of the agent's turn: what a policy continues."""
        ids = self.ids(messages) + self._generation
        self._fits(len(ids) + 1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    @property
    def stop_ids(self) -> list[int]:
        """The token that ends an agent's turn."""
        return self._wrap["assistant", False][1][:1]

    def _fits(self, length: int) -> None:
        if length > self.context:
            raise ContextOverflow(
                f"the conversation has {length} tokens, the model's context is {self.context}: raise model.context"
            )

    def _encode(self, text: str, special: bool) -> list[int]:
        with _ENCODING:
            return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special)

    def _encode_turn(self, role: str, first: bool, text: str, taken: int) -> tuple[list[int], list[bool]]:
        """The ids of a whole turn, and which of them the agent wrote; it says how many actions were `taken` if any."""
        before, after = self._wrap[role, first]
        shown = self._shown(role, first, text)
        if taken:
            shown = f"{shown}\nActions taken: {taken}".strip()
        content = self._encode(shown, special=False)
        written = role == "assistant"
        agent = [False] * len(before) + [written] * len(content) + [written and i == 0 for i in range(len(after))]
        return before + content + after, agent

    def _shown(self, role: str, first: bool, text: str) -> str:
        text = text.strip()
        if role == "user":
            return text if first or self._kept.observations else ""
        if self._kept.thoughts and self._kept.actions:
            return text
        thought, action, _ = parse(text, self._form)
        if self._kept.actions:
            return render("", action, self._form)
        return thought if self._kept.thoughts else ""

    def _split_template(self) -> tuple[dict[tuple[str, bool], tuple[list[int], list[int]]], list[int]]:
        """The ids around a turn's text, by role and whether it is the first turn, and those that open an answer."""

        template = self.tokenizer.get_chat_template()
        if self._kept.action_count:
            template = template.removeprefix(COUNTING)

        def render(count: int, generate: bool = False) -> str:
            roles = ("user", "assistant")
            turns = [{"role": roles[i % 2], "content": _MARKS[i]} for i in range(count)]
            return self.tokenizer.apply_chat_template(
                turns, chat_template=template, tokenize=False, add_generation_prompt=generate
            )

        whole, generation = render(5), render(5, True)
        pieces, rest = [], whole
        for mark in _MARKS:
            before, _, rest = rest.partition(mark)
            pieces.append(before)
        opening = generation[len(whole) :]
        user_end, agent_end = rest, render(2).rpartition(_MARKS[1])[2]
        user_start = pieces[2][len(agent_end) :]
        stable = (
            generation.startswith(whole)
            and all(whole.startswith(render(count)) for count in range(1, 5))
            and pieces[1] == pieces[3] == user_end + opening
            and pieces[2] == pieces[4] == agent_end + user_start
            and bool(agent_end)
        )
        if not stable:
            raise ModelError(
                f"the chat template of {self.tokenizer.name_or_path} rewrites earlier turns, so a state would not be a "
                "prefix of its successor: use a template that only appends"
            )
        wrap = {
            ("user", True): (pieces[0], user_end),
            ("user", False): (user_start, user_end),
            ("assistant", False): (opening, agent_end),
        }
        ids = {
            key: (self._encode(before, special=True), self._encode(after, special=True))
            for key, (before, after) in wrap.items()
        }
        return ids, self._encode(opening, special=True)

"""Conversations to token ids with the model's own chat template; nothing else in AgentRM builds prompts.

The ids are those of the template's whole text, and a state's are a prefix of its successor's, so that every engine can
reuse its KV cache. Each turn is rendered once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from agentrm.config.schema import Representation
from agentrm.core.actions import ActionFormat, parse, render
from agentrm.core.errors import ContextOverflow, ModelError
from agentrm.core.messages import Message
from agentrm.model_directory import settings
from agentrm.rendering.template import START, ChatTemplate, Place, Tail, Turn, fixed_day, place_of

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

# A tokenizer keeps how it cuts from one call to the next, and texts are read in threads.
_ENCODING = threading.Lock()


def settle_template(tokenizer: PreTrainedTokenizerBase, counted: bool = False) -> None:
    """Let a model's template show the same on any day and in any library: a fixed date, and where `counted`, how many
    actions were taken.
    """

    def settled(template: str) -> str:
        return (COUNTING if counted else "") + fixed_day(template.removeprefix(COUNTING))

    own = tokenizer.chat_template
    if isinstance(own, dict):
        tokenizer.chat_template = {name: settled(template) for name, template in own.items()}
    elif own:
        tokenizer.chat_template = settled(own)


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
    first turn is always whole. Raises ModelError at once when the tokenizer has no chat template, or for the reasons of
    `ChatTemplate`.
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
        template = tokenizer.get_chat_template()
        if self._kept.action_count:
            template = template.removeprefix(COUNTING)
        self._template = ChatTemplate(tokenizer, fixed_day(template))
        self._turn = lru_cache(maxsize=16384)(self._render_turn)
        self._opened = lru_cache(maxsize=16384)(self._template.opened)

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
        """All turns of a conversation, closed. Raises ContextOverflow, and InputRefused as `ChatTemplate.turn` does."""
        rendered, tail = self._turns(messages)
        rendered.ids.extend(tail.ids)
        rendered.agent.extend(tail.agent)
        self._fits(len(rendered.ids))
        return rendered

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
        rendered, tail = self._turns(messages)
        ids = rendered.ids + self._opened(tail)
        self._fits(len(ids) + 1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    @property
    def stop_ids(self) -> list[int]:
        """The tokens that end an agent's turn. Raises ModelError when no policy can be prompted by the template."""
        return self._template.stop_ids()

    def check_policy(self) -> None:
        """Raise ModelError unless a policy can be prompted by the template."""
        self._template.stop_ids()

    def _fits(self, length: int) -> None:
        if length > self.context:
            raise ContextOverflow(
                f"the conversation has {length} tokens, the model's context is {self.context}: raise model.context"
            )

    def _turns(self, messages: Sequence[Message]) -> tuple[Rendered, Tail]:
        """What is final of a conversation, with the ends of all its turns, and its tail."""
        ids: list[int] = []
        agent: list[bool] = []
        ends: list[int] = []
        tail = START
        counted, count = self._kept.action_count, len(messages)
        for index, message in enumerate(messages):
            place = place_of(message["role"], index, count)
            # Two messages to an action, the opening first.
            taken = index // 2 if counted and place == "user" else 0
            more, written, tail = self._turn(tail, place, message["content"], taken)
            ids += more
            agent += written
            ends.append(len(ids) + len(tail.ids) - 1)
        return Rendered(ids, agent, ends), tail

    def _render_turn(self, tail: Tail, place: Place, text: str, taken: int) -> Turn:
        """A turn as the model is to see it; it says how many actions were `taken` if any."""
        shown = self._shown(place, text)
        if taken:
            shown = f"{shown.strip()}\nActions taken: {taken}".strip()
        return self._template.turn(tail, place, shown)

    def _shown(self, place: Place, text: str) -> str:
        if place == "first":
            return text
        if place == "user":
            return text if self._kept.observations else ""
        if self._kept.thoughts and self._kept.actions:
            return text
        thought, action, _ = parse(text, self._form)
        if self._kept.actions:
            return render("", action, self._form)
        return thought if self._kept.thoughts else ""

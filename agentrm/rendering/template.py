"""A tokenizer's chat template: conversations to the text that it writes for them, special tokens by secret names.

Templates differ in the form in which they take what OpenAI's messages hold: arguments as an object or as text, thoughts
under several names, no content as nothing or as empty text. They are asked once, and then shown what they take.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, TemplateError

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT, Message, Tool, ToolCall, text_of
from agentrm.rendering.tokens import Tokens, any_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DAY = date(2024, 7, 26)
"""What every template shows that asks for today's date: the day that Llama's templates name where they know none."""

_SHOWN = 40
_THOUGHTS = ("reasoning_content", "thinking", "reasoning")
_SHORT_IDS = re.compile(r"length\s*!=\s*9\b")
_ID_CHARACTERS = 9


def fixed_day(template: str) -> str:
    """The template with `DAY` in place of today, for any library that renders it; others as they are."""
    if "strftime_now" not in template or "macro strftime_now" in template:
        return template
    directives = sorted(set(re.findall(r"(?<!{)%-?[aAbBcdDeFhjmuUVwWxyY]", template)))
    replaced = "".join(f' | replace("{directive}", "{DAY.strftime(directive)}")' for directive in directives)
    # The line break after a macro alone on its line is not rendered, so all other text stays as it was.
    return f"{{%- macro strftime_now(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro %}}\n{template}"


class _Calls(NamedTuple):
    """How a template takes an agent's turn that calls tools: what stands for no content, and arguments as text."""

    nothing: str | None
    as_text: bool


class ChatTemplate:
    """The `template` of a tokenizer, which gets `settings` beside every conversation (`enable_thinking` and the like).

    `thoughts`: where it does not know `reasoning_content`, it gets the agent's thoughts by the name that it knows, or
    within the content.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        tokens: Tokens,
        settings: Mapping[str, Any],
        thoughts: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._tokens = tokens
        self._settings = dict(settings)
        self._keeps_thoughts = thoughts
        self._tools = lru_cache(maxsize=64)(self._shown_tools)
        self.sought = self._find_sought()

    def text(self, messages: Sequence[Message], tools: Sequence[Tool] = (), *, opened: bool = False) -> str:
        """What the template writes; `opened` asks for the agent's turn. Raises InputRefused for a conversation that it
        does not take.
        """
        offered = self._tools(json.dumps(list(tools), ensure_ascii=False)) if tools else None
        written = self._apply([self._shown_message(message) for message in messages], offered, opened)
        return self._tokens.shown(self._tokens.named(written))

    def _apply(self, messages: Sequence[Message], tools: list[Tool] | None, opened: bool) -> str:
        try:
            return self._tokenizer.apply_chat_template(
                list(messages),
                tools=tools,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=opened,
                **self._settings,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise InputRefused(
                f"the chat template of {self._tokenizer.name_or_path} does not take the conversation: {error}"
            ) from error

    def _shown_message(self, message: Message) -> Message:
        """A message as the template takes it, with nothing in it that looks like a special token."""
        content = message["content"]
        agent = message["role"] == AGENT
        if len(message) == 2 and isinstance(content, str):
            return {"role": message["role"], "content": self._tokens.hidden(content, agent)}
        shown = json.loads(self._tokens.hidden(json.dumps(message, ensure_ascii=False), agent))
        if isinstance(content, list) and not self._takes_parts:
            shown["content"] = text_of(shown)
        if self._keeps_thoughts and "reasoning_content" in shown and self._thoughts != "reasoning_content":
            thoughts = shown.pop("reasoning_content")
            if self._thoughts:
                shown[self._thoughts] = thoughts
            else:
                shown["content"] = f"<think>\n{thoughts}\n</think>\n\n{text_of(shown)}"
        if "tool_calls" in shown:
            for call in shown["tool_calls"]:
                call["id"] = self._identity(call["id"])
                if not self._calls.as_text:
                    # What is no JSON is shown as it is.
                    with suppress(ValueError, RecursionError):
                        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        if "tool_call_id" in shown:
            shown["tool_call_id"] = self._identity(shown["tool_call_id"])
        if shown["content"] is None:
            shown["content"] = self._calls.nothing if "tool_calls" in shown else ""
        return shown

    def _shown_tools(self, tools: str) -> list[Tool]:
        return json.loads(self._tokens.hidden(tools, of_the_agent=False))

    def _identity(self, given: str) -> str:
        """A call's id: Mistral's templates take those of nine letters and digits only."""
        if self._short_ids and not (len(given) == _ID_CHARACTERS and given.isalnum()):
            return blake2b(given.encode(), digest_size=8).hexdigest()[:_ID_CHARACTERS]
        return given

    @cached_property
    def _short_ids(self) -> bool:
        return _SHORT_IDS.search(self._template) is not None

    @cached_property
    def _thoughts(self) -> str | None:
        """The field of thoughts; None where the template knows none."""
        return next(
            (name for name in _THOUGHTS if re.search(rf"""(?:\.|\[['"]|get\(['"]){name}\b""", self._template)), None
        )

    @cached_property
    def _takes_parts(self) -> bool:
        parts = [{"type": "text", "text": text} for text in ("mark0mark", "mark1mark")]
        with suppress(InputRefused):
            text = self._apply([{"role": "user", "content": parts}], None, opened=False)
            return "mark0mark" in text and "mark1mark" in text and "'type'" not in text and '"type"' not in text
        return False

    @cached_property
    def _calls(self) -> _Calls:
        """The first form in which calls are shown; where none is, the first that is taken."""
        taken = []
        for nothing, as_text in product((None, ""), (False, True)):
            call = ToolCall("mark0mark", '{"mark1mark": "mark2mark"}', "a" * _ID_CHARACTERS).message()
            if not as_text:
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
            asked = {"role": AGENT, "content": nothing, "tool_calls": [call]}
            with suppress(InputRefused):
                text = self._apply([{"role": "user", "content": "go"}, asked], None, opened=False)
                if "mark0mark" in text and "mark2mark" in text:
                    return _Calls(nothing, as_text)
                taken.append(_Calls(nothing, as_text))
        return taken[0] if taken else _Calls("", as_text=False)

    def _find_sought(self) -> re.Pattern[str]:
        """What a template may look for in a text, such as `</think>`: all that it names but words."""
        named = {token.value for token in Environment().lexer.tokenize(self._template) if token.type == "string"}
        texts = {text.strip() for text in named if len(text.strip()) > 2 and re.search(r"[^\w\s]", text)}
        return any_of(texts)

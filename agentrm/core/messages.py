"""A conversation's messages and tools, in OpenAI's form: the one form from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrm.core.errors import InputRefused

Message = dict[str, Any]
"""`role`, `content` (text, a list of text parts, or None), and where it has them `reasoning_content`, `tool_calls` (of
each `id`, `type` and `function` with `name` and `arguments`, JSON text), `tool_call_id` and `name`; nothing else."""

Tool = dict[str, Any]
"""A function on offer: `type` and `function` with `name`, `description` and `parameters`, a JSON schema."""

AGENT = "assistant"
ROLES = ("system", "developer", "user", AGENT, "tool")
_OF_THE_AGENT = ("tool_calls", "reasoning_content")
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, and the tools that were on offer."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()

    @classmethod
    def of(cls, given: Conversation | Sequence[Message]) -> Conversation:
        """A conversation, or messages without tools."""
        return given if isinstance(given, Conversation) else cls(given)

    def beginning(self, turns: int) -> Conversation:
        """The state after the answers to this many of the agent's messages, 0 for the opening."""
        left, messages = turns, []
        for message in self.messages:
            left -= message["role"] == AGENT
            if left < 0:
                break
            messages.append(message)
        return Conversation(messages, self.tools)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function; `arguments` is JSON text, as it was written."""

    name: str
    arguments: str = "{}"
    id: str = ""

    def message(self) -> dict[str, Any]:
        """The call within an agent's message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def call_id(number: int) -> str:
    """The id of a conversation's call where nobody else gives it one, counted from 0."""
    return f"call_{number}"


@dataclass(frozen=True, slots=True)
class Run:
    """A message of the agent and those of others up to its next one."""

    agent: Message
    answers: list[Message] = field(default_factory=list)


def runs(messages: Sequence[Message]) -> tuple[list[Message], list[Run]]:
    """What stands before the agent's first message, and each message of the agent with what follows it."""
    opening: list[Message] = []
    turns: list[Run] = []
    for message in messages:
        if message["role"] == AGENT:
            turns.append(Run(message))
        else:
            (turns[-1].answers if turns else opening).append(message)
    return opening, turns


def environment_turns(messages: Sequence[Message]) -> list[int]:
    """After how many of the agent's messages the environment has spoken last: 0 for the opening, if there is one."""
    opening, steps = runs(messages)
    return [0] * bool(opening) + [number for number, run in enumerate(steps, 1) if run.answers]


def checked(given: Any, where: str = "messages") -> list[Message]:
    """Messages of others in the form of ours. Raises InputRefused, which names the field, for what no model here takes:
    images, unknown roles and fields.
    """
    return [_message(message, place) for place, message in _entries(given, where, "messages")]


def checked_tools(given: Any, where: str = "tools") -> list[Tool]:
    """Tools of others. Raises InputRefused, which names the field, for what is no function's description."""
    if given is None:
        return []
    tools = []
    for place, entry in _entries(given, where, "tools"):
        tool = _object(entry, place)
        function = _object(tool.get("function"), f"{place}.function")
        if tool.get("type", "function") != "function":
            raise InputRefused(f"{place}.type is {tool['type']!r}: only functions can be offered")
        _text(function.get("name"), f"{place}.function.name")
        tools.append({"type": "function", "function": _plain(function, f"{place}.function")})
    return tools


def _message(given: Any, where: str) -> Message:
    message = {name: value for name, value in _object(given, where).items() if value is not None}
    role = message.pop("role", None)
    if role not in ROLES:
        raise InputRefused(f"{where}.role is {_excerpt(role)}: it must be one of {', '.join(ROLES)}")
    made: Message = {"role": role, "content": _content(message.pop("content", None), f"{where}.content")}
    reasoning = message.pop("reasoning", None)
    message.setdefault("reasoning_content", reasoning)
    for name in _OF_THE_AGENT:
        if role != AGENT and message.get(name):
            raise InputRefused(f"{where}.{name} goes with the role {AGENT} alone")
    if message.get("reasoning_content"):
        made["reasoning_content"] = _text(message["reasoning_content"], f"{where}.reasoning_content")
    if message.get("tool_calls"):
        made["tool_calls"] = _calls(message["tool_calls"], f"{where}.tool_calls")
    for name in ("tool_call_id", "name"):
        if message.get(name):
            made[name] = _text(message[name], f"{where}.{name}")
    for name, value in message.items():
        # Answers of endpoints come back with such fields, empty ones.
        if name not in ("reasoning_content", "tool_calls", "tool_call_id", "name") and value not in ("", [], {}, False):
            raise InputRefused(f"{where}.{name} is no field that a model here can read")
    if made["content"] is None and role != AGENT:
        raise InputRefused(f"{where}.content is missing: only the role {AGENT} may say nothing")
    return made


def _content(given: Any, where: str) -> Any:
    if given is None or isinstance(given, str):
        return None if given is None else _text(given, where)
    if not isinstance(given, Sequence):
        raise InputRefused(f"{where} must be text, or a list of text parts")
    parts = []
    for index, entry in enumerate(given):
        part = _object(entry, f"{where}[{index}]")
        if part.get("type") not in ("text", "input_text", "output_text"):
            raise InputRefused(f"{where}[{index}].type is {_excerpt(part.get('type'))}: only text can be read here")
        parts.append({"type": "text", "text": _text(part.get("text"), f"{where}[{index}].text")})
    return parts


def _calls(given: Any, where: str) -> list[dict[str, Any]]:
    calls = []
    for place, entry in _entries(given, where, "calls"):
        call = _object(entry, place)
        if call.get("type", "function") != "function":
            raise InputRefused(f"{place}.type is {_excerpt(call['type'])}: only functions can be called")
        function = _object(call.get("function"), f"{place}.function")
        arguments = function.get("arguments")
        if arguments is None:
            arguments = "{}"
        elif not isinstance(arguments, str):
            arguments = json.dumps(_plain(arguments, f"{place}.function.arguments"), ensure_ascii=False)
        name = _text(function.get("name"), f"{place}.function.name")
        identity = _text(call.get("id") or "", f"{place}.id")
        calls.append(ToolCall(name, _text(arguments, f"{place}.function.arguments"), identity).message())
    return calls


def _entries(given: Any, where: str, of: str) -> Iterator[tuple[str, Any]]:
    """The entries of what must be a list, each with its place."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InputRefused(f"{where} must be a list of {of}")
    for index, entry in enumerate(given):
        yield f"{where}[{index}]", entry


def _object(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InputRefused(f"{where} must be an object")
    return given


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise InputRefused(f"{where} must be text")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InputRefused(f"{where} holds half of a surrogate pair, which is no character") from None
    return given


def _plain(given: Any, where: str) -> Any:
    """Plain JSON, all of whose text can be encoded."""
    _text(json.dumps(given, ensure_ascii=False), where)
    return dict(given) if isinstance(given, Mapping) else given


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def text_of(message: Message) -> str:
    """The words of a message: its content as one text."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or ())

"""Preference pairs: TRL's (`prompt`, `chosen`, `rejected`), ToolRM's and Plan-RewardBench's. A pair is two episodes, of
outcome 1 and 0.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT
from agentrm.episodes.columns import Columns, Record, decoded, name, objects_of, opening_id
from agentrm.episodes.episode import SIDES, Episode
from agentrm.episodes.forms.form import Form, holds, messages_of

_PROMPTS = ("prompt", "chat_history")
_NAMES = {"chosen": ("chosen", "chosen_response"), "rejected": ("rejected", "reject", "reject_response")}


def fits(record: Record) -> bool:
    """Whether a record has both sides."""
    return all(_field(record, side) is not None for side in SIDES)


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """Both episodes of a pair, or none: without the other a side says nothing."""
    asked: Any = next((record[column] for column in _PROMPTS if record.get(column) is not None), [])
    prompt = messages_of(_part(asked), "user") if asked else []
    pair = name(record, ("pair",))
    episodes = []
    for side in SIDES:
        field = _field(record, side) or side
        messages = with_calls([*prompt, *messages_of(_part(record[field]), AGENT)], field)
        known = {"outcome": side == SIDES[0], "id": "", "pair": pair, "side": side}
        episodes.append(columns.episode(record, messages, record.get("tools"), where=field, **known))
    opening = opening_id(episodes[0].messages, episodes[0].tools)
    if not columns.task(record) and opening != opening_id(episodes[1].messages, episodes[1].tools):
        raise InputRefused("chosen and rejected begin differently: name the column of the task's id with task=COLUMN")
    yield from episodes


def with_calls(given: list[Any], where: str) -> list[Any]:
    """Messages in which the roles `tool_call`, a call as text, and `tool_response` became those of OpenAI: calls belong
    to the agent's turn before them. Raises InputRefused.
    """
    messages: list[Any] = []
    count = 0
    for index, message in enumerate(objects_of(given, where)):
        role = message.get("role")
        if role == "tool_call":
            call = _call(message.get("content"), f"{where}[{index}].content")
            count += 1
            if not (messages and messages[-1].get("role") == AGENT):
                messages.append({"role": AGENT, "content": None})
            messages[-1] = messages[-1] | {
                "tool_calls": [*messages[-1].get("tool_calls", ()), call | {"id": f"call_{count}"}]
            }
        elif role == "tool_response":
            messages.append({**message, "role": "tool"})
        else:
            messages.append(message)
    return messages


def _call(content: Any, where: str) -> dict[str, Any]:
    """A call that is written as JSON or as Python writes it."""
    call = content
    for parse in (json.loads, ast.literal_eval):
        if isinstance(call, str):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                call = parse(call)
    if not isinstance(call, Mapping) or "name" not in call:
        raise InputRefused(f"{where} is no call: write an object of name and arguments")
    return {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments")}}


def _field(record: Record, side: str) -> str | None:
    return next((field for field in _NAMES[side] if holds(record, field, (list, str, dict))), None)


def _part(value: Any) -> Any:
    """Text, or messages, which some store as JSON text."""
    return decoded(value, "chosen") if isinstance(value, str) and value.startswith('[{"') else value


FORM = Form("pairs", fits, read)

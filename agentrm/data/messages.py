"""Messages as columns: what any reader of Parquet shows as a list of structs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from agentrm.core.messages import Message, Tool, ToolCall

CALLS = pa.list_(pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())]))
MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("parts", pa.list_(pa.string())),
            ("reasoning_content", pa.string()),
            ("tool_calls", CALLS),
            ("tool_call_id", pa.string()),
            ("name", pa.string()),
        ]
    )
)
"""Content in several text parts is in `parts`, else in `content`."""

TOOLS = pa.string()
"""JSON text: the schemas of arguments have any shape."""


def to_rows(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages as values of a `MESSAGES` column."""
    return [_row(message) for message in messages]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Message]:
    """The messages that `to_rows` wrote."""
    return [_message(row) for row in rows]


def calls_to_rows(calls: Iterable[ToolCall]) -> list[dict[str, str]]:
    """Calls as values of a `CALLS` column."""
    return [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]


def calls_from_rows(rows: Iterable[Mapping[str, str]] | None) -> tuple[ToolCall, ...]:
    """The calls that `calls_to_rows` wrote."""
    return tuple(ToolCall(**row) for row in rows or ())


def tools_to_text(tools: Sequence[Tool]) -> str | None:
    """Tools as the value of a `TOOLS` column; None without any."""
    return json.dumps(list(tools), ensure_ascii=False) if tools else None


def tools_from_text(text: str | None) -> tuple[Tool, ...]:
    """The tools that `tools_to_text` wrote."""
    return tuple(json.loads(text)) if text else ()


def _row(message: Message) -> dict[str, Any]:
    row = dict(message)
    if isinstance(row["content"], list):
        row["parts"] = [part["text"] for part in row["content"]]
        row["content"] = None
    if calls := row.get("tool_calls"):
        row["tool_calls"] = [{"id": call["id"], **call["function"]} for call in calls]
    return row


def _message(row: Mapping[str, Any]) -> Message:
    message: Message = {"role": row["role"], "content": row["content"]}
    if row["parts"] is not None:
        message["content"] = [{"type": "text", "text": text} for text in row["parts"]]
    for name in ("reasoning_content", "tool_call_id", "name"):
        if row[name] is not None:
            message[name] = row[name]
    if row["tool_calls"] is not None:
        message["tool_calls"] = [call.message() for call in calls_from_rows(row["tool_calls"])]
    return message

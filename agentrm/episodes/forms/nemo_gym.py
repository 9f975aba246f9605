"""NeMo-Gym's rollouts: items of OpenAI's Responses API, what the agent was asked and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT
from agentrm.episodes.columns import Columns, Record, name, objects_of
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms.form import Form, holds


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """The episode of a rollout."""
    asked, answered = record["responses_create_params"], record["response"]
    given = asked.get("input")
    before: list[Record] = []
    if asked.get("instructions"):
        before.append({"role": "system", "content": asked["instructions"]})
    if isinstance(given, str):
        before.append({"role": "user", "content": given})
    else:
        before += objects_of(given, "responses_create_params.input")
    items = [*before, *objects_of(answered.get("output"), "response.output")]
    task = record.get("_ng_task_index")
    yield columns.episode(
        record,
        messages_of_items(items, "response.output"),
        asked.get("tools"),
        where="response.output",
        task=task,
        id=name(answered, ("id",)),
        model=name(answered, ("model",)) or name(asked, ("model",)),
    )


def messages_of_items(items: Sequence[Record], where: str) -> list[dict[str, Any]]:
    """Items as messages: what the agent thinks, says and calls one after the other is one turn. Raises InputRefused."""
    messages: list[dict[str, Any]] = []
    goes_on = False
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call_output":
            messages.append({"role": "tool", "content": _text(item.get("output")), "tool_call_id": item.get("call_id")})
        elif kind == "message" and item.get("role") != AGENT:
            messages.append({"role": item.get("role"), "content": item.get("content")})
        elif kind in ("message", "reasoning", "function_call"):
            if not goes_on or (kind == "message" and messages[-1]["content"]):
                messages.append({"role": AGENT, "content": ""})
            _add(messages[-1], item, kind)
            goes_on = True
            continue
        else:
            raise InputRefused(f"{where}[{index}].type is {kind!r}: messages, reasoning and function calls can be read")
        goes_on = False
    return messages


def _add(turn: dict[str, Any], item: Mapping[str, Any], kind: str) -> None:
    if kind == "message":
        turn["content"] = _text(item.get("content"))
    elif kind == "reasoning":
        said = _text(item.get("content")) or _text(item.get("summary"))
        turn["reasoning_content"] = "\n".join(filter(None, (turn.get("reasoning_content"), said)))
    else:
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        turn.setdefault("tool_calls", []).append({"id": item.get("call_id"), "type": "function", "function": function})


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") if isinstance(part, Mapping) else str(part) for part in content)
    return str(content or "")


FORM = Form(
    "nemo_gym",
    lambda record: holds(record, "responses_create_params", dict) and holds(record, "response", dict),
    read,
)

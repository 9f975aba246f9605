"""Finding in a record what its episodes need beside the messages: outcome, task, id, model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from agentrm.config.schema import Episodes
from agentrm.core.errors import InputRefused
from agentrm.core.messages import Message, Tool, checked, checked_tools
from agentrm.episodes import exact
from agentrm.episodes.conversation import linked, text
from agentrm.episodes.episode import Episode

OUTCOMES = ("outcome", "reward", "score", "success", "resolved", "label", "final_label")
TASKS = ("task_id", "instance_id", "item_id", "uuid", "example_id", "query_index", "question_id", "task")
MODELS = ("model", "model_name")
SOURCES = ("data_source", "dataset")

Record = Mapping[str, Any]
_LISTED = 12


class Columns:
    """Where records have what episodes need: what the user named, else what the form has. With `required`, an episode
    without an outcome is refused.
    """

    def __init__(self, settings: Episodes, required: bool = True) -> None:
        self._settings = settings
        self._required = required
        self._constant: float | None = None
        with suppress(ValueError):
            self._constant = float(settings.outcome)

    def episode(self, record: Record, messages: Any, tools: Any = None, **fields: Any) -> Episode:
        """The checked episode of a record. `fields` are those of `Episode` that its form knows better, with `outcome`
        as the data has it. Raises InputRefused that names the field.
        """
        told = fields.pop("where", "messages")
        taken = linked(checked(decoded(messages, told), told), told)
        if not any(message["role"] == "assistant" for message in taken):
            raise InputRefused(f"{told} holds no turn of the agent" if taken else f"{told} is empty")
        offered = checked_tools(framed(decoded(tools, "tools")))
        if record.get("agentrm") is not None:
            # What an exported episode is worth stands there, of the tree's own scale.
            fields["exact"] = exact.checked(decoded(record["agentrm"], "agentrm"), taken)
            fields["outcome"] = None if record.get("outcome") is None else number(record["outcome"], "outcome")
        else:
            fields["outcome"] = self.outcome(record, fields.get("outcome"))
        fields["task"] = self.task(record, fields.get("task")) or opening_id(taken, offered)
        fields.setdefault("id", name(record, ("id", "trajectory_id")))
        fields.setdefault("model", name(record, MODELS))
        fields.setdefault("source", name(record, SOURCES))
        for key in ("rewards", "labels"):
            if fields.get(key):
                fields[key] = [None if value is None else number(value, key) for value in fields[key]]
        return Episode(taken, offered, **fields)

    def outcome(self, record: Record, known: Any = None) -> float | None:
        """The outcome in [0, 1]: whether the episode is the better one, where the form says so; of the column that the
        user named, else what the form knows, else of a usual column. Raises InputRefused.
        """
        if isinstance(known, bool):
            return float(known)
        if self._constant is not None:
            return self.scaled(self._constant, "outcome")
        column = self._settings.outcome
        if column:
            value = lookup(record, column)
            if value is None:
                raise InputRefused(f"there is no {column}: the fields are {listed(record)}")
            return self.scaled(value, column)
        if known is not None:
            return self.scaled(known, "the outcome")
        field = next((candidate for candidate in OUTCOMES if record.get(candidate) is not None), None)
        if field is not None:
            return self.scaled(record[field], field)
        if self._required:
            raise InputRefused(f"there is no outcome: name its column with outcome=COLUMN, of {listed(record)}")
        return None

    def scaled(self, value: Any, where: str) -> float:
        """A number of the user's scale in [0, 1]; true is 1 and false 0. Raises InputRefused."""
        if isinstance(value, bool):
            return float(value)
        low, high = self._settings.scale
        given = number(value, where)
        if not low <= given <= high:
            raise InputRefused(f"{where} is {given:g}, outside its scale [{low:g}, {high:g}]: give scale=[low,high]")
        return (given - low) / (high - low)

    def task(self, record: Record, known: Any = None) -> str:
        """The task's id, "" where there is none. Raises InputRefused where the user named a column that is missing."""
        if column := self._settings.task:
            value = lookup(record, column)
            if value is None:
                raise InputRefused(f"there is no {column}: the fields are {listed(record)}")
            return text(value if isinstance(value, str) else json.dumps(value, sort_keys=True), column)
        return text(str(known), "the task's id") if known not in (None, "") else name(record, TASKS)


def framed(tools: Any) -> Any:
    """Tools of which those that are a function's description alone have its frame."""
    if not isinstance(tools, list):
        return tools
    return [_framed(tool) if isinstance(tool, Mapping) and "name" in tool else tool for tool in tools]


def _framed(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {key: value for key, value in tool.items() if key not in ("type", "strict")}
    return {"type": tool.get("type", "function"), "function": function}


def number(value: Any, where: str) -> float:
    """A finite number. Raises InputRefused."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputRefused(f"{where} is {str(value)[:40]!r}, no number")
    return float(value)


def name(record: Record, names: Sequence[str]) -> str:
    """The first of some fields that holds a name: text or a whole number."""
    for field in names:
        value = record.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return text(str(value), field)
    return ""


def lookup(record: Record, column: str) -> Any:
    """What a column holds, or a field within it behind a dot; None where it is not there."""
    if column in record:
        return record[column]
    first, dot, rest = column.partition(".")
    inner = record.get(first) if dot else None
    return lookup(inner, rest) if isinstance(inner, Mapping) else None


def object_of(value: Any, where: str) -> Record:
    """An object, empty where there is none. Raises InputRefused."""
    if value is not None and not isinstance(value, Mapping):
        raise InputRefused(f"{where} must be an object")
    return value or {}


def objects_of(value: Any, where: str) -> list[Record]:
    """A list of objects, empty where there is none. Raises InputRefused."""
    if value is not None and not isinstance(value, list):
        raise InputRefused(f"{where} must be a list")
    for index, item in enumerate(value or ()):
        if not isinstance(item, Mapping):
            raise InputRefused(f"{where}[{index}] must be an object")
    return value or []


def decoded(value: Any, where: str) -> Any:
    """A value that some store as JSON text. Raises InputRefused."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else None
    except (ValueError, RecursionError) as error:
        raise InputRefused(f"{where} is text, but no JSON: {error}") from None


def listed(record: Record) -> str:
    """The fields of a record, for people."""
    names = [str(field) for field in record]
    return ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")


def opening_id(messages: Sequence[Message], tools: Sequence[Tool]) -> str:
    """What stands for a task's id where there is none: its opening and its tools."""
    opening = []
    for message in messages:
        if message["role"] == "assistant":
            break
        opening.append(message)
    given = json.dumps([opening, list(tools)], sort_keys=True, ensure_ascii=False)
    return blake2b(given.encode(), digest_size=12).hexdigest()

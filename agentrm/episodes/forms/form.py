"""What a form of stored episodes is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentrm.episodes.columns import Columns, Record
from agentrm.episodes.episode import Episode


@dataclass(frozen=True, slots=True)
class Form:
    """`fits` says whether a record is of the form; `read` gives its episodes, and raises InputRefused that names the
    field of a record that cannot be read.
    """

    name: str
    fits: Callable[[Record], bool]
    read: Callable[[Record, Columns], Iterator[Episode]]


def holds(record: Record, name: str, kinds: type | tuple[type, ...] = (list, str)) -> bool:
    """Whether a record has a field that is not None, of such a type."""
    return isinstance(record.get(name), kinds)


def messages_of(value: Any, role: str) -> list[Any]:
    """A conversation that is a list of messages, one message, an object that holds them, or plain text of a role."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):
        return list(value["messages"]) if isinstance(value.get("messages"), list) else [value]
    return list(value) if isinstance(value, list) else [value]

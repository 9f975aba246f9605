"""ShareGPT, as AgentGym (AgentTraj-L) and ETO have it: `conversations` of `from` and `value`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.episodes.columns import Columns, Record, decoded
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms.form import Form, holds

_ROLES = {
    "human": "user",
    "user": "user",
    "observation": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """The episode of a row, whose `item_id` or `id` is the task's."""
    given = decoded(record["conversations"], "conversations")
    if not isinstance(given, list):
        raise InputRefused("conversations must be a list of turns")
    messages = [_message(turn, f"conversations[{index}]") for index, turn in enumerate(given)]
    task = record.get("item_id", record.get("id"))
    yield columns.episode(record, messages, record.get("tools"), where="conversations", task=task, id="")


def _message(turn: Any, where: str) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise InputRefused(f"{where} must be an object")
    role = _ROLES.get(str(turn.get("from")))
    if role is None:
        raise InputRefused(f"{where}.from is {str(turn.get('from'))[:40]!r}: it must be one of {', '.join(_ROLES)}")
    return {"role": role, "content": turn.get("value")}


FORM = Form("sharegpt", lambda record: holds(record, "conversations"), read)

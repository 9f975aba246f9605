"""OpenAI's chat messages, one row each, as most logs have them, and with labels of single steps as AgentProcessBench
has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT
from agentrm.episodes.columns import Columns, Record, decoded, objects_of
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms.form import Form, holds


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """The episode of a row: `messages`, `tools`, and `step_labels` by the index of the message."""
    fields: dict[str, Any] = {}
    messages = decoded(record["messages"], "messages")
    if record.get("step_labels"):
        fields["labels"] = _labels(record["step_labels"], messages)
    yield columns.episode(record, messages, record.get("tools"), **fields)


def _labels(given: Any, messages: Any) -> list[Any]:
    labels = decoded(given, "step_labels")
    if not isinstance(labels, Mapping):
        raise InputRefused("step_labels must be an object: the label by the message's index")
    turns = enumerate(objects_of(messages, "messages"))
    agents = [index for index, message in turns if message.get("role") == AGENT]
    unknown = set(labels) - {str(index) for index in agents}
    if unknown:
        raise InputRefused(f"step_labels names message {min(unknown)}, which is no turn of the agent")
    return [labels.get(str(index)) for index in agents]


FORM = Form("openai", lambda record: holds(record, "messages"), read)

"""TRL's stepwise supervision: a `prompt`, the steps of its solution as `completions`, and one of `labels` to each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.episodes.columns import Columns, Record
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms.form import Form, holds, messages_of


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """The episode of a row; its outcome is the last step's label, unless a column has it. True is 1, false -1."""
    steps, labels = record["completions"], [_label(label) for label in record["labels"]]
    if len(steps) != len(labels):
        raise InputRefused(f"labels holds {len(labels)}, but completions {len(steps)}")
    turns = [turn for step in steps for turn in messages_of(step, "assistant")]
    messages = [*messages_of(record["prompt"], "user"), *turns]
    known = {"outcome": labels[-1] > 0} if record.get("outcome") is None and labels and labels[-1] in (1, -1) else {}
    yield columns.episode(record, messages, where="completions", labels=labels, **known)


def _label(value: Any) -> Any:
    return (1 if value else -1) if isinstance(value, bool) else value


def _fits(record: Record) -> bool:
    return holds(record, "prompt") and holds(record, "completions", list) and holds(record, "labels", list)


FORM = Form("stepwise", _fits, read)

"""SWE-rebench-OpenHands and kin: a column `trajectory` of OpenAI's messages, and whether the issue was `resolved`."""

from __future__ import annotations

from collections.abc import Iterator

from agentrm.episodes.columns import Columns, Record
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms.form import Form, holds


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """The episode of a row."""
    yield columns.episode(record, record["trajectory"], record.get("tools"), where="trajectory")


FORM = Form("trajectory", lambda record: holds(record, "trajectory"), read)

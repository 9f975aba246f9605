"""One stored episode, in the form that all readers give and all writers take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrm.core.messages import Message, Tool

SIDES = ("chosen", "rejected")
"""Of a preference pair."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A whole conversation, which ends with the agent's turn or the answers to it.

    `outcome` in [0, 1], None where it is unknown. `rewards` and `labels` (-1, 0 or 1) are of the agent's turns in their
    order, empty where the data has none; `task` is the data's own id of the task, or what stands for it; `source` says
    which data it is of, `form` how it was stored. `pair` and `side` are of a preference. `exact` is what `agentrm
    export` adds: see `exact`.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    outcome: float | None = None
    task: str = ""
    id: str = ""
    model: str = ""
    rewards: Sequence[float | None] = ()
    labels: Sequence[float | None] = ()
    pair: str = ""
    side: str = ""
    source: str = ""
    form: str = ""
    file: str = ""
    line: int = 0
    exact: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be read, and why: of a record, or with line 0 of a whole file."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"

"""TRBench-BFCL (ToolRM): which of two answers to a conversation calls the right tools? An equal value is half right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrm.core.messages import AGENT
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards.benchmark import (
    Benchmark,
    Candidate,
    Case,
    Measure,
    accuracies,
    conversation,
    decoded,
    pairwise,
    said,
)
from agentrm.evaluation.rewards.values import characters

_SIDES = ("chosen_response", "reject_response")


def fits(record: Mapping[str, Any]) -> bool:
    """Whether a record is one of TRBench-BFCL."""
    return all(name in record for name in ("chat_history", *_SIDES))


def read(record: Mapping[str, Any], file: Path, number: int) -> Iterator[Case]:
    """The pair of a record; its length is that of the answer."""
    history = record["chat_history"]
    asked = decoded(history, "chat_history") if str(history).startswith("[") else said(history, "user")
    candidates = []
    for side in _SIDES:
        answer = said(record[side], AGENT)
        answer = answer if isinstance(answer, list) else [answer]
        whole = conversation([*asked, *answer], record.get("tools"), side)
        candidates.append(Candidate(whole, [sum(map(characters, whole.messages[len(asked) :]))]))
    yield Case(file.stem, str(record.get("id") or number), candidates)


def measure(cases: Sequence[Case], scores: Sequence[Any], settings: Settings) -> list[Measure]:
    """The accuracy of each file."""
    return accuracies(cases, scores, pairwise, "accuracy", settings)


BENCHMARK = Benchmark("TRBench-BFCL", fits, read, measure)

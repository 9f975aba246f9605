"""Plan-RewardBench (ACL 2026): of two episodes of one request, which one plans better? Accuracy per file.

An equal value is half right. A length is the characters of all contents as they are stored, calls of tools among them:
with it "shorter wins" has the published figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import Conversation, checked_tools
from agentrm.episodes.columns import framed
from agentrm.episodes.conversation import linked
from agentrm.episodes.forms.pairs import with_calls
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards.benchmark import Benchmark, Candidate, Case, Measure, accuracies, checked, pairwise

_SIDES = ("chosen", "reject")


def fits(record: Mapping[str, Any]) -> bool:
    """Whether a record is one of Plan-RewardBench."""
    return "query" in record and all(isinstance(record.get(side), Mapping) for side in _SIDES)


def read(record: Mapping[str, Any], file: Path, number: int) -> Iterator[Case]:
    """The pair of a record."""
    tools = checked_tools(framed(record.get("tools")))
    candidates = []
    for side in _SIDES:
        stored = record[side].get("messages")
        if not isinstance(stored, list):
            raise InputRefused(f"{side}.messages must be a list")
        messages = linked(checked(with_calls(stored, side), side), side)
        length = sum(len(str(message.get("content") or "")) for message in stored)
        candidates.append(Candidate(Conversation(messages, tools), [length]))
    yield Case(file.stem, str(record.get("uuid") or number), candidates)


def measure(cases: Sequence[Case], scores: Sequence[Any], settings: Settings) -> list[Measure]:
    """The accuracy of each file."""
    return accuracies(cases, scores, pairwise, "accuracy", settings)


BENCHMARK = Benchmark("Plan-RewardBench", fits, read, measure)

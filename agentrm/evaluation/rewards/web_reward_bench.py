"""WebRewardBench (Web-Shepherd): of one right action and others that are wrong, which is the best from this page?

MRR: the mean reciprocal rank of the right one. Step accuracy: how often it is first. Trajectory accuracy: in how many
trajectories it always is. An equal value counts against the right one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT, Conversation, Message, checked
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards.benchmark import (
    Benchmark,
    Candidate,
    Case,
    Measure,
    Scores,
    decoded,
    grouped,
    ratio,
    text,
)
from agentrm.evaluation.rewards.values import characters

_TASKS = ("task_id", "annotation_id", "intent")


def fits(record: Mapping[str, Any]) -> bool:
    """Whether a record is one of WebRewardBench."""
    return all(name in record for name in ("intent", "chosen", "rejected", "action_history"))


def read(record: Mapping[str, Any], file: Path, number: int) -> Iterator[Case]:
    """The actions of a record, the right one first. The turns before are those of the histories; of the pages only the
    last one is known. A length is that of the action with its thought.
    """
    thoughts, actions = (_list(record, name) for name in ("thought_history", "action_history"))
    opening = [f"Your task: {text(record, 'intent')}"]
    if checklist := record.get("gt_checklist"):
        opening.append(f"Checklist:\n{checklist}")
    turns = [_turn(thought, action) for thought, action in zip(thoughts, actions, strict=False)]
    if turns:
        opening.append("\n".join(["Done so far:", *turns]))
    opening.append(f"The page now:\n{text(record, 'text_observation')}")
    asked: Message = {"role": "user", "content": "\n\n".join(opening)}
    candidates = []
    for side in ("chosen", "rejected"):
        for index, step in enumerate(_list(record, side)):
            if not isinstance(step, Mapping):
                raise InputRefused(f"{side}[{index}] must be an object of thought and action")
            answer = {"role": AGENT, "content": _turn(step.get("thought"), step.get("action"))}
            messages = checked([asked, answer], side)
            candidates.append(Candidate(Conversation(messages), [characters(messages[-1])]))
    if len(_list(record, "chosen")) != 1 or len(candidates) < 2:
        raise InputRefused("chosen must hold one action, and rejected at least one")
    group = str(record.get("source_name") or file.stem)
    yield Case(group, next(str(record[name]) for name in _TASKS if record.get(name) is not None), candidates)


def measure(cases: Sequence[Case], scores: Sequence[Scores], settings: Settings) -> list[Measure]:
    """MRR, step and trajectory accuracy of each data source."""
    measures = []
    for group, own in grouped(cases, map(rank, scores)).items():
        by_task: dict[str, list[int]] = defaultdict(list)
        for case, place in own:
            by_task[case.task].append(place)
        figures = {
            "MRR": [(case.task, 1 / place, 1.0) for case, place in own],
            "step accuracy": [(case.task, float(place == 1), 1.0) for case, place in own],
            "trajectory accuracy": [(task, float(max(places) == 1), 1.0) for task, places in by_task.items()],
        }
        measures += [Measure(group, name, len(pairs), ratio(pairs, settings)) for name, pairs in figures.items()]
    return measures


def rank(scores: Scores) -> int:
    """The place of the first candidate, behind all that are as good."""
    (first,), *others = scores
    return 1 + sum(other >= first for (other,) in others)


def _list(record: Mapping[str, Any], name: str) -> list[Any]:
    value = decoded(record.get(name), name)
    if not isinstance(value, list):
        raise InputRefused(f"{name} must be a list")
    return value


def _turn(thought: Any, action: Any) -> str:
    return f"Thought: {thought}\nAction: {action}" if thought else f"Action: {action}"


BENCHMARK = Benchmark("WebRewardBench", fits, read, measure)

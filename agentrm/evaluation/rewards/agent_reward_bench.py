"""AgentRewardBench (McGill): did an agent of the web succeed, as people who looked say? Precision, recall and F1.

`annotations.csv` lies beside the episodes, `.../BENCHMARK/.../MODEL/.../TASK.json`. The first annotation of an episode
counts, and none that is unsure. A value is a success from a threshold on: the one with the best F1 on one half of the
tasks serves the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
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
    halves,
    ratio,
    records,
)
from agentrm.evaluation.rewards.values import characters

ALL = "all"
_SUCCESS = {"successful": True, "success": True, "unsuccessful": False, "failure": False}
_LEFT_OUT = "(a page)"


def fits(record: Mapping[str, Any]) -> bool:
    """Whether a record is an annotation of AgentRewardBench."""
    return all(name in record for name in ("benchmark", "task_id", "model_name", "trajectory_success"))


def read(record: Mapping[str, Any], file: Path, number: int) -> Iterator[Case]:
    """The episode of an annotation; the truth is whether it succeeded. As for the published judges, the last page alone
    is shown.
    """
    success = _SUCCESS.get(str(record["trajectory_success"]).strip().lower())
    benchmark, model, task = (str(record[name]) for name in ("benchmark", "model_name", "task_id"))
    if success is None:
        return
    paths = [path for path in _episodes(file.parent).get(task, ()) if {benchmark, model} <= set(path.parts)]
    if not paths:
        raise InputRefused(f"there is no {task}.json of {model} in a folder {benchmark}")
    (episode,) = records(paths[0])
    messages = checked(_messages(episode), paths[0].name)
    length = sum(map(characters, messages))
    yield Case(benchmark, task, [Candidate(Conversation(messages), [length])], (success, model))


def measure(cases: Sequence[Case], scores: Sequence[Scores], settings: Settings) -> list[Measure]:
    """Precision, recall and F1 of each benchmark of the web and of all."""
    first: dict[tuple[str, str, str], tuple[Case, float]] = {}
    for case, ((value,),) in zip(cases, scores, strict=True):
        first.setdefault((case.group, case.task, case.truth[1]), (case, value))
    told: list[tuple[Case, bool]] = []
    for fitted, measured in halves(list(first.values())):
        limit = threshold([value for _, value in fitted], [case.truth[0] for case, _ in fitted])
        told += [(case, value >= limit) for case, value in measured]
    measures = []
    for group in [ALL, *sorted({case.group for case, _ in told})]:
        own = [(case.task, case.truth[0], said) for case, said in told if group in (ALL, case.group)]
        both = [(task, float(true and said)) for task, true, said in own]
        wholes = {
            "precision": [float(said) for _, _, said in own],
            "recall": [float(true) for _, true, _ in own],
            "F1": [(true + said) / 2 for _, true, said in own],
        }
        for name, whole in wholes.items():
            pairs = [(task, right, part) for (task, right), part in zip(both, whole, strict=True)]
            measures.append(Measure(group, name, len(own), ratio(pairs, settings)))
    return measures


def threshold(values: Sequence[float], truth: Sequence[bool]) -> float:
    """The value from which on successes have the best F1; the lowest of equally good ones."""
    best, chosen = -1.0, float("-inf")
    for limit in sorted(set(values)):
        said = [value >= limit for value in values]
        right = sum(one and other for one, other in zip(said, truth, strict=True))
        f1 = 2 * right / max(sum(said) + sum(truth), 1)
        if f1 > best:
            best, chosen = f1, limit
    return chosen


def _messages(episode: Mapping[str, Any]) -> list[Message]:
    steps = episode.get("steps")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, Mapping) for step in steps):
        raise InputRefused("steps must be a list of objects")
    messages: list[Message] = [{"role": "user", "content": f"Your task: {episode.get('goal') or ''}".strip()}]
    for number, step in enumerate(steps, 1):
        page = str(step.get("axtree") or "") if number == len(steps) else _LEFT_OUT
        if number == 1:
            messages[0]["content"] += f"\n\n{page}"
        else:
            messages.append({"role": "user", "content": page})
        thought, action = (str(step.get(name) or "") for name in ("reasoning", "action"))
        messages.append({"role": AGENT, "content": f"Thought: {thought}\nAction: {action}"})
    return messages


@lru_cache(maxsize=4)
def _episodes(directory: Path) -> dict[str, list[Path]]:
    """The episodes below a directory, by the task's id."""
    episodes: dict[str, list[Path]] = {}
    for path in sorted(directory.rglob("*.json")):
        episodes.setdefault(path.stem, []).append(path)
    return episodes


BENCHMARK = Benchmark("AgentRewardBench", fits, read, measure)

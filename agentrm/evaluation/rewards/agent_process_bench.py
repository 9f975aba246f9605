"""AgentProcessBench (KDD 2026): was each step of an episode good (1), neutral (0) or wrong (-1)?

StepAcc: the share of all steps whose label is right. FirstErrAcc: the share of episodes whose first wrong step, or that
there is none, is right. A model gives values, no labels: a step's is what it adds to the value before it, wrong below
one threshold and good from another one on. Both are those with the best StepAcc on one half of the tasks, and serve the
other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT, Conversation
from agentrm.episodes.conversation import linked
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards.benchmark import (
    Benchmark,
    Candidate,
    Case,
    Measure,
    Scores,
    conversation,
    decoded,
    grouped,
    halves,
    ratio,
)
from agentrm.evaluation.rewards.values import lengths

WRONG, NEUTRAL, GOOD = -1, 0, 1


def fits(record: Mapping[str, Any]) -> bool:
    """Whether a record is one of AgentProcessBench."""
    return "messages" in record and "step_labels" in record


def read(record: Mapping[str, Any], file: Path, number: int) -> Iterator[Case]:
    """The episode of a record; the truth is the labels of the agent's turns, None where a turn has none."""
    given = conversation(record["messages"], record.get("tools"))
    messages = linked(given.messages)
    labels = decoded(record["step_labels"], "step_labels")
    if not isinstance(labels, Mapping):
        raise InputRefused("step_labels must be an object: the label by the message's index")
    truth = [labels.get(str(index)) for index, message in enumerate(messages) if message["role"] == AGENT]
    if any(label not in (None, WRONG, NEUTRAL, GOOD) for label in truth):
        raise InputRefused("step_labels holds something else than -1, 0 and 1")
    group = str(record.get("data_source") or file.stem)
    candidate = Candidate(Conversation(messages, given.tools), lengths(messages))
    yield Case(group, str(record.get("query_index", number)), [candidate], truth)


def measure(cases: Sequence[Case], scores: Sequence[Scores], settings: Settings) -> list[Measure]:
    """StepAcc and FirstErrAcc of each data source."""
    measures = []
    for group, own in grouped(cases, (gains(case_scores[0]) for case_scores in scores)).items():
        steps, firsts = [], []
        for fitted, measured in halves(own):
            known = [
                (gain, label)
                for case, found_gains in fitted
                for gain, label in zip(found_gains, case.truth, strict=True)
                if gain is not None and label is not None
            ]
            low, high = thresholds([gain for gain, _ in known], [label for _, label in known])
            for case, found_gains in measured:
                said = [None if gain is None else label_of(gain, low, high) for gain in found_gains]
                asked = [(told, label) for told, label in zip(said, case.truth, strict=True) if label is not None]
                steps.append((case.task, float(sum(told == label for told, label in asked)), float(len(asked))))
                right = first_error([told for told, _ in asked]) == first_error([label for _, label in asked])
                firsts.append((case.task, float(right), 1.0))
        measures.append(Measure(group, "StepAcc", len(own), ratio(steps, settings)))
        measures.append(Measure(group, "FirstErrAcc", len(own), ratio(firsts, settings)))
    return measures


def gains(values: Sequence[float]) -> list[float | None]:
    """What each turn added to the last value before it; None for what has no value."""
    added: list[float | None] = []
    before = values[0]
    for value in values[1:]:
        added.append(value - before if isfinite(value) and isfinite(before) else None)
        before = value if isfinite(value) else before
    return added


def label_of(gain: float, low: float, high: float) -> int:
    """The label of a step."""
    return WRONG if gain < low else GOOD if gain >= high else NEUTRAL


def thresholds(gains: Sequence[float], labels: Sequence[int]) -> tuple[float, float]:
    """Those with the most right labels, the lowest of equally good ones: without any steps all are good."""
    order = np.argsort(np.asarray(gains, float), kind="stable")
    ordered, truth = np.asarray(gains, float)[order], np.asarray(labels)[order]
    below = {label: np.concatenate([[0], np.cumsum(truth == label)]) for label in (WRONG, NEUTRAL, GOOD)}
    # Only between different gains can a threshold lie.
    cuts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]])) if len(ordered) else [0]
    best, chosen = -1, (0, 0)
    top, at = -1, 0
    for cut in cuts:
        if (count := below[WRONG][cut] - below[NEUTRAL][cut]) > top or cut == 0:
            top, at = count, cut
        right = top + below[NEUTRAL][cut] + below[GOOD][-1] - below[GOOD][cut]
        if right > best:
            best, chosen = right, (at, cut)
    low, high = (float(ordered[cut]) if cut < len(ordered) else np.inf for cut in chosen)
    return (low if chosen[0] else -np.inf), (high if chosen[1] else -np.inf)


def first_error(labels: Sequence[int | None]) -> int | None:
    """The place of the first wrong step, None where there is none."""
    return next((place for place, label in enumerate(labels) if label == WRONG), None)


BENCHMARK = Benchmark("AgentProcessBench", fits, read, measure)

"""RewardBench 2 (AllenAI): the best of four answers, and the subset Ties, where several are right.

Best of four: an answer that shares the highest value with others gets its part of the credit. Ties: 0.3 of the accuracy
on prompts with several right answers (each right one above each wrong one), 0.3 of that on their references with one,
0.2 of how often the right ones lie closer together than to the wrong ones, 0.2 of how often they do by the reference's
distance too, and 0.01 of the tanh of how much closer. The score is the mean of the subsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT
from agentrm.evaluation.metrics import Interval, Settings
from agentrm.evaluation.rewards.benchmark import (
    Benchmark,
    Candidate,
    Case,
    Measure,
    Scores,
    accuracies,
    conversation,
    text,
)

TIES = "Ties"
_NAN = float("nan")


def fits(record: Mapping[str, Any]) -> bool:
    """Whether a record is one of RewardBench 2."""
    return all(name in record for name in ("prompt", "chosen", "rejected", "num_correct", "subset"))


def read(record: Mapping[str, Any], file: Path, number: int) -> Iterator[Case]:
    """The answers of a record, the right ones first; their number is the truth. A length is that of the answer."""
    prompt, correct = text(record, "prompt"), record["num_correct"]
    answers = []
    for side in ("chosen", "rejected"):
        if not isinstance(record[side], list) or not all(isinstance(answer, str) for answer in record[side]):
            raise InputRefused(f"{side} must be a list of texts")
        answers += record[side]
    if not isinstance(correct, int) or not 0 < correct < len(answers):
        raise InputRefused(f"num_correct is {correct!r}, of {len(answers)} answers")
    candidates = [
        Candidate(
            conversation([{"role": "user", "content": prompt}, {"role": AGENT, "content": answer}]), [len(answer)]
        )
        for answer in answers
    ]
    yield Case(str(record["subset"]), str(record.get("id", number)), candidates, correct)


def measure(cases: Sequence[Case], scores: Sequence[Scores], settings: Settings) -> list[Measure]:
    """The accuracy of each subset, that of Ties weighted and without an interval, and their mean."""
    paired = list(zip(cases, scores, strict=True))
    single = [(case, case_scores) for case, case_scores in paired if case.group != TIES]
    measures = accuracies(
        [case for case, _ in single], [case_scores for _, case_scores in single], best, "accuracy", settings
    )
    if tied := [(case, case_scores) for case, case_scores in paired if case.group == TIES]:
        measures.append(Measure(TIES, "weighted score", len(tied), Interval(weighted(tied), _NAN, _NAN)))
    mean = fmean(subset.figure.value for subset in measures)
    return [*measures, Measure("all subsets", "score", len(cases), Interval(mean, _NAN, _NAN))]


def best(scores: Scores) -> float:
    """The credit for the first candidate: its part where it has the highest value, else 0."""
    values = [value for (value,) in scores]
    return 1 / values.count(values[0]) if values[0] == max(values) else 0.0


def weighted(tied: Sequence[tuple[Case, Scores]]) -> float:
    """The score of Ties. Ids are `ref:NUMBER` and `tied:NUMBER`."""
    spreads: dict[str, dict[str, tuple[float, float]]] = {"ref": {}, "tied": {}}
    for case, scores in tied:
        kind, _, prompt = case.task.partition(":")
        values = [value for (value,) in scores]
        right, wrong = values[: case.truth], values[case.truth :]
        spreads.setdefault(kind, {})[prompt] = _less(max(right), min(right)), _less(min(right), max(wrong))
    accuracy = {kind: _mean([gap > 0 for _, gap in own.values()]) for kind, own in spreads.items()}
    closer, closer_by_both, how_much = [], [], []
    for prompt in sorted(set(spreads["ref"]) & set(spreads["tied"])):
        (spread, gap), (_, reference) = spreads["tied"][prompt], spreads["ref"][prompt]
        smaller = min(gap, reference)
        closer.append(gap > spread)
        closer_by_both.append(smaller > spread)
        with np.errstate(divide="ignore", invalid="ignore"):
            # As published, 0 where all right ones are equal and no better than the wrong ones.
            how_much.append(float(np.nan_to_num(np.tanh(np.divide(smaller, spread) - 1))))
    return (
        0.3 * accuracy["tied"]
        + 0.3 * accuracy["ref"]
        + 0.2 * _mean(closer)
        + 0.2 * _mean(closer_by_both)
        + 0.01 * _mean(how_much)
    )


def _less(one: float, other: float) -> float:
    """A difference; none between two answers that cannot be read."""
    difference = one - other if one != other else 0.0
    return difference if isfinite(difference) else (inf if difference > 0 else -inf)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


BENCHMARK = Benchmark("RewardBench 2", fits, read, measure)

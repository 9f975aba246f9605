"""What a benchmark of reward models is: cases of candidates that are valued, and measures of these values."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from agentrm.core.errors import InputRefused, UserError
from agentrm.core.messages import Conversation, Message, checked, checked_tools
from agentrm.evaluation.metrics import Bootstrap, Interval, Settings

CONSTANT, SHORTER, RANDOM = "constant", "shorter wins", "random"

Scores = Sequence[Sequence[float]]
"""Of a case: the values of each candidate, -inf for those that the model cannot read."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A conversation that a model values, and its length in characters: one as a whole, or one after the opening and
    one after each of the agent's turns. So many values belong to it.
    """

    conversation: Conversation
    lengths: Sequence[int]


@dataclass(frozen=True, slots=True)
class Case:
    """Candidates that are measured together; those of one `task` stay together in every resample. `truth` is what the
    benchmark knows of them.
    """

    group: str
    task: str
    candidates: Sequence[Candidate]
    truth: Any = field(default=None)


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a group of cases, with its interval over tasks."""

    group: str
    name: str
    cases: int
    figure: Interval


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`read` gives the cases of one record of a file (its name without suffix, and the record's number) and raises
    InputRefused; `fits` says whether a record is of the benchmark; `measure` turns cases and their scores into figures.
    """

    name: str
    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], Path, int], Iterator[Case]]
    measure: Callable[[Sequence[Case], Sequence[Scores], Settings], list[Measure]]


def records(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON, JSON lines, CSV or Parquet file. Raises UserError for what is none."""
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(256):
                    yield from batch.to_pylist()
            return
        if file.suffix == ".csv":
            with file.open(newline="") as table:
                yield from csv.DictReader(table)
            return
        if file.suffix == ".jsonl":
            with file.open() as lines:
                yield from (json.loads(line) for line in lines if line.strip())
            return
        given = json.loads(file.read_text())
        yield from given if isinstance(given, list) else [given]
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error


def conversation(messages: Any, tools: Any = None, where: str = "messages") -> Conversation:
    """The checked conversation of a record. Raises InputRefused."""
    return Conversation(checked(decoded(messages, where), where), checked_tools(decoded(tools, "tools")))


def decoded(value: Any, where: str) -> Any:
    """A value that some files hold as JSON text. Raises InputRefused."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise InputRefused(f"{where} is text, but no JSON") from None


def text(record: Mapping[str, Any], name: str) -> str:
    """A field that must be text. Raises InputRefused."""
    value = record.get(name)
    if not isinstance(value, str):
        raise InputRefused(f"{name} must be text")
    return value


def said(content: Any, role: str) -> list[Message]:
    """Text as one message of a role, or messages as they are."""
    return [{"role": role, "content": content}] if isinstance(content, str) else content


def baselines(cases: Sequence[Case], seed: int) -> dict[str, list[Scores]]:
    """What is reached without a model: all equal, the shorter the better, at random."""
    drawn = random.Random(seed)
    rules: dict[str, Callable[[int], float]] = {
        CONSTANT: lambda length: 0.0,
        SHORTER: lambda length: -float(length),
        RANDOM: lambda length: drawn.random(),
    }
    return {
        name: [[[rule(length) for length in candidate.lengths] for candidate in case.candidates] for case in cases]
        for name, rule in rules.items()
    }


def grouped(cases: Sequence[Case], values: Iterable[Any]) -> dict[str, list[tuple[Case, Any]]]:
    """Cases with what belongs to each, by group."""
    groups: dict[str, list[tuple[Case, Any]]] = defaultdict(list)
    for case, value in zip(cases, values, strict=True):
        groups[case.group].append((case, value))
    return groups


def halves(own: Sequence[tuple[Case, Any]]) -> Iterator[tuple[list[tuple[Case, Any]], list[tuple[Case, Any]]]]:
    """Twice one half of the tasks to fit a threshold on, and the other to measure it on."""
    half = {task: number % 2 for number, task in enumerate(sorted({case.task for case, _ in own}))}
    for measured in (0, 1):
        yield (
            [pair for pair in own if half[pair[0].task] != measured],
            [pair for pair in own if half[pair[0].task] == measured],
        )


def ratio(pairs: Sequence[tuple[str, float, float]], settings: Settings) -> Interval:
    """The sum of the seconds by the sum of the thirds of (task, share, whole), with its interval over tasks."""
    shares: dict[str, float] = defaultdict(float)
    wholes: dict[str, float] = defaultdict(float)
    for task, share, whole in pairs:
        shares[task] += share
        wholes[task] += whole
    bootstrap = Bootstrap(len(shares), settings.resamples, settings.confidence, settings.seed)
    return bootstrap.share(np.array([*shares.values()]), np.array([*wholes.values()]))


def accuracies(
    cases: Sequence[Case], scores: Sequence[Scores], credit: Callable[[Scores], float], name: str, settings: Settings
) -> list[Measure]:
    """The mean credit of the cases of each group."""
    return [
        Measure(
            group, name, len(own), ratio([(case.task, credit(case_scores), 1.0) for case, case_scores in own], settings)
        )
        for group, own in grouped(cases, scores).items()
    ]


def pairwise(scores: Scores) -> float:
    """1 where the first of two candidates has the higher value, half where they are equal."""
    (first,), (second,) = scores
    return 0.5 if first == second else float(first > second)

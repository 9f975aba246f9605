"""What the best of N stored episodes of a task would have been: chosen by a reward model, and by other rules.

It is the expectation over all subsets of N episodes, so nothing is drawn. Among those that a rule cannot tell apart it
takes any.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from agentrm.evaluation.metrics import Bootstrap, Interval, Settings

MODEL, ORACLE, RANDOM = "reward model", "oracle", "random"
SHORTEST, LONGEST, LIKELIEST = "shortest", "longest", "likeliest"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An episode of a task: its outcome in [0, 1], the reward model's value, -inf where it has none, how many
    characters it has, and the sum of the log-probabilities of the agent's turns where they are known.
    """

    outcome: float
    value: float
    characters: int
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The mean outcome over `tasks` tasks, those with at least `n` episodes, of what each rule chooses among `n`."""

    n: int
    tasks: int
    outcomes: dict[str, Interval]


def best_of_n(tasks: Sequence[Sequence[Attempt]], settings: Settings) -> list[Row]:
    """A row for N = 1, 2, 4, … up to the most episodes of a task. Tasks with a single episode are left out; `likeliest`
    is there where all log-probabilities are known.
    """
    compared = [attempts for attempts in tasks if len(attempts) > 1]
    rules: dict[str, Callable[[Attempt], float]] = {
        MODEL: lambda attempt: attempt.value,
        ORACLE: lambda attempt: attempt.outcome,
        RANDOM: lambda attempt: 0.0,
        SHORTEST: lambda attempt: -attempt.characters,
        LONGEST: lambda attempt: attempt.characters,
    }
    if all(attempt.logprob is not None for attempts in compared for attempt in attempts):
        rules[LIKELIEST] = lambda attempt: attempt.logprob or 0.0
    rows = []
    n = 1
    while enough := [attempts for attempts in compared if len(attempts) >= n]:
        bootstrap = Bootstrap(len(enough), settings.resamples, settings.confidence, settings.seed)
        outcomes = {
            name: bootstrap.mean(np.array([_expected(attempts, rule, n) for attempts in enough]))
            for name, rule in rules.items()
        }
        rows.append(Row(n, len(enough), outcomes))
        n *= 2
    return rows


def _expected(attempts: Sequence[Attempt], rule: Callable[[Attempt], float], n: int) -> float:
    return expected_best([rule(attempt) for attempt in attempts], [attempt.outcome for attempt in attempts], n)


def expected_best(scores: Sequence[float], outcomes: Sequence[float], n: int) -> float:
    """The mean outcome of the highest score among `n` of them, over all such subsets; equal scores share it."""
    levels: dict[float, list[float]] = defaultdict(list)
    for score, outcome in zip(scores, outcomes, strict=True):
        levels[score].append(outcome)
    left, expected = len(scores), 0.0
    for score in sorted(levels, reverse=True):
        equal = levels[score]
        chosen = comb(left, n) - comb(left - len(equal), n)
        expected += chosen * sum(equal) / len(equal)
        left -= len(equal)
    return expected / comb(len(scores), n)

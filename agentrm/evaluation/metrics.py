"""Means of an evaluation with bootstrap intervals over tasks.

All methods ran on the same tasks, so a resample draws tasks and keeps each task's methods together: gains are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from agentrm.config.schema import Config
from agentrm.core.errors import UserError

BASELINE = "sampled mean"
CEILING = "oracle best of"
GREEDY = "greedy"
SHORTEST = "shortest of"
LIKELIEST = "likeliest of"
MAJORITY = "majority of"
RANDOM = ", random scores"
"""Behind a search's name: its states were compared by these in the reward model's place."""
LOG_PROBABILITY = ", log-probability"
"""Likewise: by the policy's, as beam search over a language model does."""
BEST = "best of"
"""What the reward model chose among several."""
COSTS = ("policy_tokens", "scored_states", "reward_tokens", "cached_tokens", "environment_steps", "seconds")
VERDICTS = ("asked", "malformed", "shortened", "overflows", "refused", "swayed")
"""Columns of episodes that a judge chose; see `agentrm.models.judge.Verdicts`."""
_REQUIRED = ("method", "task", "outcome", "progress", "success", "error", *COSTS)


def is_check(method: str) -> bool:
    """Whether a row of every table shows what is reached without a trained reward model, or by the true reward."""
    whole = (BASELINE, CEILING, SHORTEST, LIKELIEST, MAJORITY)
    return method.startswith(whole) or method.endswith((RANDOM, LOG_PROBABILITY))


def rivals(method: str, methods: Sequence[str]) -> list[str]:
    """The methods of a table that one which the reward model chooses in has to lead to be worth that model: what needs
    none and sees no true reward (a greedy episode, the mean of N, which is what a random one of them is worth, their
    shortest, likeliest and most frequent), and the same search by random scores and by the log-probability.
    """
    whole = (BASELINE, SHORTEST, LIKELIEST, MAJORITY)
    own = (method + RANDOM, method + LOG_PROBABILITY)
    return [rival for rival in methods if rival == GREEDY or rival.startswith(whole) or rival in own]


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate and the ends of its percentile bootstrap interval; all NaN where it is not defined."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Resamples of tasks: `resamples` rows of weights over `tasks` tasks, each row sums to 1."""

    def __init__(self, tasks: int, resamples: int, confidence: float, seed: int) -> None:
        counts = np.random.default_rng(seed).multinomial(tasks, np.full(tasks, 1 / tasks), size=resamples)
        self._weights = counts / tasks
        self._quantiles = (1 - confidence) / 2, (1 + confidence) / 2

    def mean(self, values: np.ndarray) -> Interval:
        """The mean over tasks."""
        return self._interval(float(values.mean()), self._weights @ values)

    def share(self, gain: np.ndarray, room: np.ndarray) -> Interval:
        """mean(gain) / mean(room): the share of the room that the gain closes. Undefined where there is no room."""
        if not room.mean() > 0:
            return Interval(np.nan, np.nan, np.nan)
        rooms = self._weights @ room
        possible = rooms > 0
        return self._interval(float(gain.mean() / room.mean()), (self._weights @ gain)[possible] / rooms[possible])

    def _interval(self, value: float, resampled: np.ndarray) -> Interval:
        low, high = np.quantile(resampled, self._quantiles)
        return Interval(value, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Settings:
    """How intervals are drawn."""

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0

    @classmethod
    def of(cls, config: Config) -> Settings:
        """Those of a configuration."""
        return cls(config.intervals.resamples, config.intervals.confidence, config.seed)


_DEFAULT = Settings()


def summarise(episodes: pa.Table, by: Sequence[str], settings: Settings = _DEFAULT) -> pa.Table:
    """One row per combination of the columns `by` and per method, in the order of first appearance.

    `episodes` has one row per task and method: `method`, `task`, `outcome`, `progress` and `success` in [0, 1], `error`
    (empty unless the environment failed) and the costs of one episode. A task with a failed or missing method is left
    out of all methods of its group, so that all are compared on the same tasks; `failed` counts those.

    Columns: `by`, method, tasks, failed; outcome, success and progress with `_low` and `_high`; `gain` over the sampled
    mean and `closed`, the share of the distance from the sampled mean to the oracle's choice, likewise (NaN where there
    is no such distance); `lead` over the same search by the policy's log-probability, likewise (NaN where the table has
    none); `best_lead` over the best of its `rivals` on these tasks, likewise, and that one's name as `rival` (None
    where there is none, or the method needs no reward model); mean costs per task. Raises UserError for a missing
    column, or a method twice on one task.
    """
    missing = [column for column in (*by, *_REQUIRED) if column not in episodes.column_names]
    if missing:
        raise UserError(f"the table of episodes has no column {missing[0]}: run `agentrm evaluate` again")
    frame = episodes.to_pandas()
    repeated = frame[frame.duplicated([*by, "method", "task"])]
    if len(repeated):
        first = repeated.iloc[0]
        raise UserError(f"the table of episodes holds {first.method} on {first.task} twice: remove one")
    rows = [
        row
        for key, group in frame.groupby(list(by), sort=False)
        for row in _group_rows(dict(zip(by, key, strict=True)), group, settings)
    ]
    return pa.Table.from_pylist(rows)


def _group_rows(key: dict[str, str], group: pd.DataFrame, settings: Settings) -> Iterator[dict[str, object]]:
    methods = list(group["method"].unique())
    usable = group[group["error"] == ""]
    complete = usable.groupby("task")["method"].nunique() == len(methods)
    tasks = sorted(complete.index[complete])
    failed = group["task"].nunique() - len(tasks)
    if not tasks:
        return
    played = {method: rows.set_index("task").loc[tasks] for method, rows in usable.groupby("method")}
    bootstrap = Bootstrap(len(tasks), settings.resamples, settings.confidence, settings.seed)

    def values(method: str, column: str) -> np.ndarray:
        return played[method][column].to_numpy(float)

    ceilings = [method for method in methods if method.startswith(CEILING)]
    for method in methods:
        row: dict[str, object] = {**key, "method": method, "tasks": len(tasks), "failed": failed}
        intervals = {column: bootstrap.mean(values(method, column)) for column in ("outcome", "success", "progress")}
        if BASELINE in methods:
            base = values(BASELINE, "outcome")
            gain = values(method, "outcome") - base
            room = values(ceilings[0], "outcome") - base if ceilings else np.zeros(len(tasks))
            intervals |= {"gain": bootstrap.mean(gain), "closed": bootstrap.share(gain, room)}
        if (untrained := _by_log_probability(method)) in methods:
            intervals["lead"] = bootstrap.mean(values(method, "outcome") - values(untrained, "outcome"))
        else:
            intervals["lead"] = Interval(np.nan, np.nan, np.nan)
        best = max(
            [] if is_check(method) or method == GREEDY else rivals(method, methods),
            key=lambda rival: values(rival, "outcome").mean(),
            default=None,
        )
        over = Interval(np.nan, np.nan, np.nan)
        if best is not None:
            over = bootstrap.mean(values(method, "outcome") - values(best, "outcome"))
        intervals["best_lead"], row["rival"] = over, best
        for name, interval in intervals.items():
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        yield row | {cost: float(values(method, cost).mean()) for cost in COSTS}


def _by_log_probability(method: str) -> str:
    """The name of the check that does what a method does with the policy's log-probability alone."""
    return method.replace(BEST, LIKELIEST, 1) if method.startswith(BEST) else f"{method}{LOG_PROBABILITY}"

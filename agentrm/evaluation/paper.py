"""The paper's table: means by its four categories and over all environments, beside its own figures (section 4).

A task's outcome is in the metric that the paper reports for its environment. Tasks are averaged by environment, then
environments by category and over all, so that no environment counts more for having more tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa

from agentrm.environments.base import OFFICIAL
from agentrm.evaluation.metrics import Interval, Settings, is_check

CATEGORIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Web": ("webshop",),
        "Embodied": ("alfworld", "scienceworld", "babyai"),
        "Text game": ("jericho", "pddl", "maze"),
        "Tool": ("toolquery", "tooloperation"),
    }
)
OVERALL = "Overall"
COLUMNS = (*CATEGORIES, OVERALL)
# How many tasks of each environment the paper tests.
_SIZES = {
    "webshop": 200,
    "alfworld": 134,
    "scienceworld": 90,
    "babyai": 112,
    "jericho": 20,
    "pddl": 60,
    "maze": 25,
    "toolquery": 60,
    "tooloperation": 40,
}
# The maze is the project's own grid, which needs no data.
_PAPERS_OWN = {"maze": "double_t"}

Figures = tuple[float, float, float, float, float]
PAPER: Mapping[str, Figures] = MappingProxyType(
    {
        "greedy": (57.8, 50.6, 37.4, 56.6, 52.7),
        "best of 5": (62.4, 62.7, 47.8, 68.7, 61.5),
        "beam 5x5": (64.4, 65.1, 47.5, 64.0, 63.3),
    }
)
"""In percent, of LLaMA-3-8B with the explicit reward model, by the names of our methods and in COLUMNS."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method: its mean in each of COLUMNS, in percent, undefined where it has no task of it; and the paper's
    figures for the same method, None where the tasks of a column are not the paper's or it tested no such method.
    """

    method: str
    means: tuple[Interval, ...]
    paper: tuple[float | None, ...]


def paper_rows(episodes: pa.Table, settings: Settings) -> list[Row]:
    """A row for each method but the checks that use no trained reward model, over tasks on which no method failed.

    `episodes` is that of `metrics.summarise` with the columns `environment` and `kind`. Environments in another wording
    do not count. No rows where none of the paper's environments is there.
    """
    frame = episodes.to_pandas()
    frame = frame[frame["environment"].isin(_SIZES)]
    failed = set(frame.loc[frame["error"] != "", "task"])
    frame = frame[~frame["task"].isin(failed)].drop_duplicates(["task", "method"])
    if frame.empty:
        return []
    generator = np.random.default_rng(settings.seed)
    weights = {
        str(name): _weights(group["task"].nunique(), settings.resamples, generator)
        for name, group in frame.groupby("environment", sort=True)
    }
    here = [_is_papers(frame, names) for names in (*CATEGORIES.values(), tuple(_SIZES))]
    methods = [method for method in frame["method"].unique() if not is_check(method)]
    return [
        Row(
            method,
            _means(frame[frame["method"] == method], weights, settings),
            tuple(
                figure if same else None
                for figure, same in zip(PAPER.get(method, (None,) * len(COLUMNS)), here, strict=True)
            ),
        )
        for method in methods
    ]


def _weights(tasks: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Shape (resamples, tasks); each row sums to 1."""
    return generator.multinomial(tasks, np.full(tasks, 1 / tasks), size=resamples) / tasks


def _means(frame: pd.DataFrame, weights: Mapping[str, np.ndarray], settings: Settings) -> tuple[Interval, ...]:
    values = {
        str(name): 100 * group.sort_values("task")["outcome"].to_numpy(float)
        for name, group in frame.groupby("environment", sort=True)
    }
    drawn = {
        name: weights[name] @ outcomes for name, outcomes in values.items() if len(outcomes) == weights[name].shape[1]
    }
    intervals = []
    for names in (*CATEGORIES.values(), tuple(_SIZES)):
        present = [name for name in names if name in drawn]
        if not present:
            intervals.append(Interval(np.nan, np.nan, np.nan))
            continue
        means = np.mean([drawn[name] for name in present], axis=0)
        low, high = np.quantile(means, [(1 - settings.confidence) / 2, (1 + settings.confidence) / 2])
        value = float(np.mean([values[name].mean() for name in present]))
        intervals.append(Interval(value, float(low), float(high)))
    return tuple(intervals)


def _is_papers(frame: pd.DataFrame, names: Sequence[str]) -> bool:
    """Whether the tasks of these environments are those that the paper tests."""
    tasks = frame.drop_duplicates("task")
    for name in names:
        own = tasks[tasks["environment"] == name]
        kind = _PAPERS_OWN.get(name)
        is_theirs = own["kind"] == kind if kind else own["task"].str.contains(rf"\.{OFFICIAL}-[^.]*$")
        if len(own) != _SIZES[name] or not is_theirs.all():
            return False
    return True

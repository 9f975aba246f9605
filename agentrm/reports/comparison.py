"""What an experiment's variants gain over what they are compared with: rows with intervals, tables, plots, a report."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from agentrm.config.schema import Config
from agentrm.environments.registry import base_name
from agentrm.evaluation.experiments import POLICY_OF, REWARD_MODEL_OF, Experiment, Plot, several_environments
from agentrm.evaluation.metrics import GREEDY, Bootstrap, Interval, is_check
from agentrm.reports.page import PAGE, bullets, pipes, section, tabular
from agentrm.reports.plots import heat_maps, outcome_bars, outcome_lines
from agentrm.reports.report import interval, judge_notes, row_class
from agentrm.run import RunDirectory

Row = dict[str, Any]

_NUMBERS = re.compile(r"\d+(x\d+)?")
_AXES = {
    "states": "states that the reward model learned from",
    "n": "N, or the beam's width",
    "policy_tokens": "policy tokens per task",
}


def gather(runs: Mapping[str, RunDirectory], config: Config, by_kind: bool) -> pd.DataFrame:
    """The episodes of finished variants, but for failures of an environment, with columns `variant`, `test` (a group of
    tasks, or an environment or kind), `pair` (the task in its base wording) and `states` (those that the reward model
    has learned from).
    """
    frames = []
    for variant, run in runs.items():
        frame = pq.read_table(run.path("evaluation") / "episodes.parquet").to_pandas()
        frame = frame[frame["error"] == ""]
        frames.append(frame.assign(variant=variant, states=float(run.metrics("train").get("states", nan))))
    episodes = pd.concat(frames, ignore_index=True)
    unit = episodes["environment"]
    if not several_environments(config):
        unit = unit + "." + episodes["kind"]
    pairs = [
        task.replace(environment, base_name(environment), 1)
        for task, environment in zip(episodes["task"], episodes["environment"], strict=True)
    ]
    return episodes.assign(test=unit if by_kind else episodes["group"], pair=pairs)


def compare(episodes: pd.DataFrame, experiment: Experiment, config: Config) -> list[Row]:
    """One row per test, variant and method: `tasks`, `outcome` and `gain` with `_low` and `_high`, the `reference`'s
    mean on the same tasks, `policy_tokens` and `states`, and `n`, the first number in the method's name (NaN: none).

    Gains are paired by task; a row that has no reference, or is one, has none (NaN).
    """
    drawn = config.intervals
    bootstraps: dict[int, Bootstrap] = {}
    groups = {
        (str(test), str(variant), str(method)): group.set_index("pair")
        for (test, variant, method), group in episodes.groupby(["test", "variant", "method"], sort=False)
    }
    outcomes = {key: group["outcome"] for key, group in groups.items()}
    rows: list[Row] = []
    for (test, variant, method), group in groups.items():
        own, reference = outcomes[test, variant, method], experiment.reference.of(variant, method)
        other = outcomes.get((test, *reference), own[:0]) if reference != (variant, method) else own[:0]
        paired = sorted(own.index.intersection(other.index))
        tasks = paired or sorted(own.index)
        if len(tasks) not in bootstraps:
            bootstraps[len(tasks)] = Bootstrap(len(tasks), drawn.resamples, drawn.confidence, config.seed)
        bootstrap = bootstraps[len(tasks)]
        outcome, gain = bootstrap.mean(own[tasks].to_numpy(float)), Interval(nan, nan, nan)
        if paired:
            gain = bootstrap.mean((own[tasks] - other[tasks]).to_numpy(float))
        number = _NUMBERS.search(method)
        rows.append(
            {
                "test": test,
                "variant": variant,
                "method": method,
                "tasks": len(tasks),
                "outcome": outcome.value,
                "outcome_low": outcome.low,
                "outcome_high": outcome.high,
                "reference": float(other[paired].mean()) if paired else nan,
                "gain": gain.value,
                "gain_low": gain.low,
                "gain_high": gain.high,
                "policy_tokens": float(group["policy_tokens"].mean()),
                "states": float(group["states"].iloc[0]),
                "n": float(number[0].partition("x")[0]) if number else nan,
            }
        )
    return rows


def shown(rows: Sequence[Row], experiment: Experiment) -> dict[str, list[Row]]:
    """By test, the rows of what was to be compared: without the checks of every evaluation and a fixed reference."""
    tests: dict[str, list[Row]] = {}
    for row in rows:
        method = row["method"]
        is_reference = experiment.reference.of(row["variant"], method) == (row["variant"], method)
        if is_check(method) or (is_reference and method == experiment.reference.method):
            continue
        tests.setdefault(row["test"], []).append(row)
    return tests


def write(name: str, experiment: Experiment, episodes: pd.DataFrame, config: Config, output: Path) -> list[Row]:
    """Write `results.parquet` (all rows of `compare`), `report.md` and `report.html` into `output`; returns the rows.

    They are made anew from the finished variants each time.
    """
    rows = compare(episodes, experiment, config)
    pq.write_table(pa.Table.from_pylist(rows), output / "results.parquet")
    tests = shown(rows, experiment)
    notes = [*(drops(tests) if experiment.drops else ()), *(transfer(episodes, config) if experiment.transfer else ())]
    notes += _notes(experiment, episodes, config)
    lines = [f"# {name}: {experiment.question}", "", f"In the paper: {experiment.paper}"]
    parts = [
        f"<header><h1>{name}</h1><p>{html.escape(experiment.question)}</p></header>",
        f"<p class=caption>In the paper: {html.escape(experiment.paper)}</p>",
        *(section(*_plot(plot, tests)) for plot in experiment.plots),
    ]
    heads = headings(experiment)
    for test, test_rows in tests.items():
        lines += ["", f"## {test}", "", *pipes(heads, map(cells, test_rows))]
        parts.append(section(test, tabular(heads, [(row_class(row["method"]), cells(row)) for row in test_rows])))
    lines += ["", *(f"- {note}" for note in notes)]
    (output / "report.md").write_text("\n".join(lines) + "\n")
    (output / "report.html").write_text(PAGE.replace("{{body}}", "\n".join([*parts, bullets(notes)])))
    return rows


def drops(tests: Mapping[str, Sequence[Row]]) -> list[str]:
    """A sentence for each test and method: by how many points its variants fall below the reference, on average, and
    the standard deviation of that.
    """
    told = []
    for test, rows in tests.items():
        for method in dict.fromkeys(row["method"] for row in rows):
            lost = [-100 * row["gain"] for row in rows if row["method"] == method and not isnan(row["gain"])]
            if lost:
                spread = f", standard deviation {stdev(lost):.1f}" if len(lost) > 1 else ""
                told.append(f"{test}, {method}: mean drop over {len(lost)} wordings {mean(lost):.1f} points{spread}.")
    return told


def transfer(episodes: pd.DataFrame, config: Config) -> list[str]:
    """A sentence for each method in which a reward model chooses: by how many points those of one task lead over the
    policies that were fine-tuned on it, on the tests of all other tasks, paired by task.
    """
    drawn, told = config.intervals, []
    searched = episodes[episodes["variant"].str.startswith(REWARD_MODEL_OF)]
    policies = episodes[episodes["method"] == GREEDY]
    for method, group in searched.groupby("method", sort=False):
        if is_check(str(method)):
            continue
        leads: list[np.ndarray] = []
        for (variant, test), own in group.groupby(["variant", "test"], sort=False):
            unit = str(variant).removeprefix(REWARD_MODEL_OF)
            other = policies[(policies["variant"] == POLICY_OF + unit) & (policies["test"] == test)]
            pairs = own.set_index("pair")["outcome"].sub(other.set_index("pair")["outcome"]).dropna()
            if test != unit and len(pairs):
                leads.append(pairs.to_numpy(float))
        if leads:
            every = np.concatenate(leads)
            lead = Bootstrap(len(every), drawn.resamples, drawn.confidence, config.seed).mean(every)
            told.append(
                f"{method}: on tasks that neither has learned from, reward models lead over fine-tuned policies by "
                f"{100 * lead.value:+.1f} points [{100 * lead.low:+.1f}, {100 * lead.high:+.1f}]."
            )
    return told


def headings(experiment: Experiment) -> list[str]:
    """What `cells` shows of a row."""
    return ["variant", "method", "tasks", "outcome", experiment.reference.label, "gain", "tokens"]


def cells(row: Row) -> list[str]:
    """A row as text, in `headings`."""
    return [
        row["variant"],
        row["method"],
        str(row["tasks"]),
        interval(row, "outcome", "{:.2f}"),
        "–" if isnan(row["reference"]) else f"{row['reference']:.2f}",
        interval(row, "gain", "{:+.2f}"),
        f"{row['policy_tokens']:,.0f}",
    ]


def _plot(plot: Plot, tests: Mapping[str, Sequence[Row]]) -> tuple[str, str, str]:
    """Title, figure and caption."""
    if plot == "bars":
        bars = {
            test: [row | {"method": f"{row['method']}, {row['variant']}"} for row in sorted(rows, key=_by_method)]
            for test, rows in tests.items()
        }
        return "Outcome", outcome_bars(bars), "Bars: mean over tasks; whiskers: interval."
    if plot == "matrix":
        maps: dict[str, dict[tuple[str, str], float]] = {}
        for test, rows in tests.items():
            for row in (entry for entry in rows if not isnan(entry["gain"])):
                maps.setdefault(row["method"], {})[row["variant"], test] = row["gain"]
        return "Gains", heat_maps(maps, "trained on", "tested on"), "Blue: a gain; amber: a loss."
    lines: dict[str, dict[str, list[Row]]] = {}
    for test, rows in tests.items():
        for row in rows:
            series = row["method"] if plot == "states" else _NUMBERS.sub("N", row["method"])
            lines.setdefault(test, {}).setdefault(series, []).append(row)
    return f"Outcome against {_AXES[plot]}", outcome_lines(lines, plot, _AXES[plot]), "Whiskers: interval."


def _by_method(row: Row) -> str:
    return row["method"]


def _notes(experiment: Experiment, episodes: pd.DataFrame, config: Config) -> list[str]:
    drawn = config.intervals
    return [
        f"Brackets: {drawn.confidence:.0%} percentile bootstrap intervals over tasks, of {drawn.resamples:,} "
        f"resamples. Gain: over {experiment.reference.label}, paired by task. Tokens: the policy's, per task.",
        "Outcomes are from 0 to 1; the paper's points are hundredths of them.",
        *judge_notes(episodes),
    ]

"""The report of an evaluation: `report.html`, `report.md`, the picture `outcomes.svg`, and `table`, `environments` and
`episodes` as Parquet.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from agentrm import storage
from agentrm.config.schema import Config
from agentrm.core.tree import Tree
from agentrm.evaluation.metrics import BASELINE, CEILING, COSTS, VERDICTS, Settings, is_check, summarise
from agentrm.evaluation.paper import COLUMNS, paper_rows
from agentrm.evaluation.paper import Row as PaperRow
from agentrm.provenance import describe_data
from agentrm.reports import quality_table
from agentrm.reports.curves import read_curves
from agentrm.reports.page import LEGEND, PAGE, bullets, pipes, section, tabular
from agentrm.reports.plots import (
    calibration_curves,
    headline_bars,
    loss_curves,
    outcome_against_tokens,
    outcome_bars,
    standalone,
    uses_reward_model,
)
from agentrm.reports.tree_picture import drawn_tree, shown_tree, tree_caption
from agentrm.run import RunDirectory
from agentrm.training.recorder import EVENTS

Row = dict[str, Any]

HEADINGS = (
    "method",
    "outcome",
    "success",
    "gain over sampled mean",
    "distance closed",
    "lead over log-probability",
    "lead over the best without it",
    "policy tokens",
    "scored states",
    "reward model's tokens",
    "its cached tokens",
    "environment steps",
    "seconds",
)

_HEADLINE = "What the reward model is worth"
_HEADLINE_CAPTION = (
    "Mean outcome of tasks that nobody trained on: of one answer; of the best method that needs no reward model; of "
    "searches in which the reward model chooses; and of the best of N answers by the true reward, which no method "
    "sees. Whiskers: interval."
)
_PAPER = "The paper's rows, in percent"
_PAPER_CAPTION = (
    "Means of tasks by environment, then of environments; Overall is over all environments that are there. The paper's "
    "figure for the same method, with LLaMA-3-8B and the explicit reward model, stands behind ours where all tasks of "
    "a column are the paper's test sets, whole."
)
_QUALITY = "The reward model on held-out trees"
_QUALITY_CAPTION = (
    "Accuracy of pairs of one tree, with intervals over trees: 0.5 is chance. Equal depth and siblings compare states "
    "that length cannot tell apart."
)


def write_report(episodes: pa.Table, output: Path, config: Config, directory: RunDirectory) -> dict[str, Any]:
    """Write the report of `episodes` (see `metrics.summarise`, with `group` and `environment` columns) into `output`.

    Returns the rows of the table as `{group: {method: {column: value}}}`, undefined values as None.
    """
    drawn = Settings.of(config)
    table = summarise(episodes, ["group"], drawn)
    environments = summarise(episodes, ["group", "environment", "kind"], drawn)
    pq.write_table(episodes, output / "episodes.parquet")
    pq.write_table(table, output / "table.parquet")
    pq.write_table(environments, output / "environments.parquet")
    groups = _grouped(table)
    paper = paper_rows(episodes, drawn)
    facts = _facts(config, directory)
    quality = directory.metrics("train").get("held_out", {})
    frame = episodes.to_pandas()
    notes = _notes(config, episodes) + judge_notes(frame) + refusal_notes(frame)
    notes += context_notes(frame) + quality_table.verdicts(quality)
    (output / "report.md").write_text(_markdown(groups, paper, facts, notes, quality))
    (output / "outcomes.svg").write_text(standalone(headline_bars(groups)))
    losses = fit_losses(directory)
    (output / "report.html").write_text(
        _html(groups, paper, environments.to_pylist(), facts, notes, losses, quality, shown_tree(directory))
    )
    return by_group(table)


def by_group(table: pa.Table) -> dict[str, dict[str, Row]]:
    """The rows of `metrics.summarise` as `{group: {method: {column: value}}}`, undefined values as None."""
    return {name: {row["method"]: _plain(row) for row in rows} for name, rows in _grouped(table).items()}


def _plain(row: Row) -> Row:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
        if key not in ("group", "method")
    }


def _grouped(table: pa.Table) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["group"], []).append(row)
    return groups


def cells(row: Row) -> list[str]:
    """One method's row as text, in HEADINGS."""
    baseline, ceiling = row["method"] == BASELINE, row["method"].startswith(CEILING)
    return [
        row["method"],
        interval(row, "outcome", "{:.3f}"),
        interval(row, "success", "{:.0%}"),
        "" if baseline else interval(row, "gain", "{:+.3f}"),
        "" if baseline or ceiling else interval(row, "closed", "{:.0%}"),
        "" if is_check(row["method"]) else interval(row, "lead", "{:+.3f}"),
        best_lead(row) if row.get("rival") else "",
        *(_cost(row, name) for name in COSTS),
    ]


def best_lead(row: Row) -> str:
    """The lead over the best method that needs no reward model, and that one's name."""
    return f"{interval(row, 'best_lead', '{:+.3f}')} {row['rival']}"


def _cost(row: Row, name: str) -> str:
    """A mean cost; a dash in the table of a run that did not count it yet."""
    if name not in row:
        return "–"
    return f"{row[name]:,.1f}" if name == "seconds" else f"{row[name]:,.0f}"


def interval(row: Row, name: str, form: str) -> str:
    """A figure of a row with the ends of its interval, each as `form`; a dash where it is not defined."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None or math.isnan(value):
        return "–"
    return f"{form.format(value)} [{form.format(low)}, {form.format(high)}]"


def _facts(config: Config, directory: RunDirectory) -> dict[str, str]:
    """What was compared, and on what it rests."""
    model = config.model
    versions = directory.metrics("versions")
    facts = {
        "run": storage.name(config.run),
        "policy": f"{model.source}, {model.action_format.value} actions, temperature {config.sampling.temperature:g}",
        "seed": str(config.seed),
        "data": describe_data(directory.metrics("data")),
        "tasks that their environment failed": _failed(directory),
        "reward model": _short(directory.metrics("train")),
        "seconds by stage": _short(directory.metrics("seconds")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: text for name, text in facts.items() if text}


def _failed(directory: RunDirectory) -> str:
    """How many tasks the stages before the evaluation went without."""
    demonstrations = directory.metrics("demonstrations").values()
    failed = {
        "demonstrations": sum(counts.get("environment_failure", 0) for counts in demonstrations),
        "trees": directory.metrics("trees").get("failed", 0),
    }
    return ", ".join(f"{count:,.0f} for {stage}" for stage, count in failed.items() if count)


def _short(values: Mapping[str, Any]) -> str:
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in numbers.items())


def _notes(config: Config, episodes: pa.Table) -> list[str]:
    settings, drawn = config.evaluate, config.intervals
    notes = [
        f"Brackets: {drawn.confidence:.0%} percentile bootstrap intervals over tasks, of {drawn.resamples:,} "
        "resamples; gains are paired by task.",
        "Distance closed: (method − sampled mean) / (oracle's choice − sampled mean). The oracle picks the best of the "
        "same samples by the true reward, which no method sees: a ceiling for Best-of-N, not for beam search.",
        "A greedy episode, the shortest, the likeliest and the most frequent of N, and searches by random scores or by "
        "the policy's log-probability, use no reward model: a gain that they have too is no merit of it. The lead over "
        "the log-probability, paired by task, is that of Best-of-N over the likeliest of N, of a guided search over "
        "itself by the log-probability alone; the lead over the best without it is that over whichever of all these "
        "did best on these tasks (the sampled mean is what a random one of N is worth).",
        "Costs are means per task. Tasks run side by side and share the machine, so seconds include waiting.",
    ]
    if settings.equal_tokens:
        notes.append(
            "Best of N, tokens of a search: on each task as many episodes as that search's policy tokens pay for. Its "
            "seconds leave out the turns that another method had sampled."
        )
    failed = {
        (row["group"], row["task"]) for row in episodes.select(["group", "task", "error"]).to_pylist() if row["error"]
    }
    if failed:
        text = ", ".join(f"{count} in {name}" for name, count in sorted(Counter(group for group, _ in failed).items()))
        notes.append(f"Left out because the environment failed in some method: {text}.")
    return notes


def judge_notes(episodes: pd.DataFrame) -> list[str]:
    """One sentence per method that a judge chose: how often it gave no usable answer."""
    counted = [name for name in VERDICTS if name in episodes.columns]
    if not counted:
        return []
    judged = episodes[episodes["asked"].notna()]
    return [
        f"{method}: of {counts['asked']:,.0f} questions to the judge {counts['malformed']:,.0f} had answers that name "
        f"no single attempt, {counts['overflows']:,.0f} did not fit its context"
        + (f" and {counts['shortened']:,.0f} did when they were shortened" if counts.get("shortened") else "")
        + (f", {counts['refused']:,.0f} it refused" if counts.get("refused") else "")
        + f"; {counts['swayed']:,.0f} choices changed with the order of the attempts. Where none is left, the first "
        "attempt is kept."
        for method, counts in judged.groupby("method", sort=False)[counted].sum().iterrows()
    ]


def refusal_notes(episodes: pd.DataFrame) -> list[str]:
    """One sentence where the policy's model refused to go on in some states."""
    if "refusals" not in episodes.columns or not episodes["refusals"].sum():
        return []
    counts = episodes.groupby("method", sort=False)["refusals"].sum()
    text = ", ".join(f"{count:,.0f} in {method}" for method, count in counts[counts > 0].items())
    return [f"The policy's model refused to go on in some states, where those episodes ended: {text}."]


def context_notes(episodes: pd.DataFrame) -> list[str]:
    """One sentence each where the reward model read states in part, or not at all, since they exceed its context."""
    told = {
        "shortened_states": "read these states in part, since they exceed its context",
        "unread_states": "read nothing of these states, which exceed its context, and preferred all others",
    }
    notes = []
    for column, what in told.items():
        if column not in episodes.columns or not episodes[column].sum():
            continue
        counts = episodes.groupby("method", sort=False)[[column, "scored_states"]].sum()
        text = ", ".join(
            f"{count:,.0f} of {scored:,.0f} in {method}"
            for method, count, scored in counts[counts[column] > 0].itertuples()
        )
        notes.append(f"The reward model {what}: {text}.")
    return notes


def fit_losses(directory: RunDirectory) -> dict[str, Sequence[tuple[int, float]]]:
    """`{title: [(step, loss), ...]}` of the two fits, finished or not, as far as they have come."""
    fits = {("policy", "clone"): "policy, cross entropy", ("reward_model", "train"): "reward model, squared error"}
    curves: dict[str, Sequence[tuple[int, float]]] = {}
    for (stage, command), title in fits.items():
        # A finished fit takes its events along into the stage's output.
        folder = directory.path(stage if directory.finished(stage) else f"work/{command}/{EVENTS}")
        if points := read_curves(folder).get("loss"):
            curves[title] = points
    return curves


def _paper_cells(row: PaperRow) -> list[str]:
    """One method's means over the paper's categories as text, each with the paper's own figure where that compares."""
    texts = [row.method]
    for mean, figure in zip(row.means, row.paper, strict=True):
        text = "–" if math.isnan(mean.value) else f"{mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}]"
        texts.append(text if figure is None else f"{text} paper {figure:.1f}")
    return texts


def _markdown(
    groups: Mapping[str, list[Row]],
    paper: Sequence[PaperRow],
    facts: Mapping[str, str],
    notes: Sequence[str],
    quality: Mapping[str, Any],
) -> str:
    lines = ["# AgentRM evaluation", "", *(f"- {name}: {text}" for name, text in facts.items())]
    for name, rows in groups.items():
        lines += ["", f"## {name} ({rows[0]['tasks']} tasks)", "", *pipes(HEADINGS, map(cells, rows))]
    if paper:
        lines += ["", f"## {_PAPER}", "", *pipes(("method", *COLUMNS), map(_paper_cells, paper)), "", _PAPER_CAPTION]
    if quality:
        lines += ["", f"## {_QUALITY}", "", *pipes(quality_table.HEADINGS, quality_table.rows(quality))]
    lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _html(
    groups: Mapping[str, list[Row]],
    paper: Sequence[PaperRow],
    environments: Sequence[Row],
    facts: Mapping[str, str],
    notes: Sequence[str],
    losses: Mapping[str, Sequence[tuple[int, float]]],
    quality: Mapping[str, Any],
    tree: Tree | None,
) -> str:
    parts = [f"<header><h1>AgentRM evaluation</h1><p>{html.escape(facts['run'])}</p></header>"]
    parts.append(LEGEND)
    parts.append(section(_HEADLINE, headline_bars(groups), _HEADLINE_CAPTION))
    if tree is not None:
        parts.append(section("One search tree that it learned from", drawn_tree(tree), tree_caption(tree)))
    parts.append(section("All methods", outcome_bars(groups), "Bars: mean over tasks; whiskers: interval."))
    parts += [section(f"{name}, {rows[0]['tasks']} tasks", _html_table(rows)) for name, rows in groups.items()]
    if paper:
        shown = [(row_class(row.method), _paper_cells(row)) for row in paper]
        parts.append(section(_PAPER, tabular(["method", *COLUMNS], shown), _PAPER_CAPTION))
    parts.append(bullets(notes))
    parts.append(section("Outcome against cost", outcome_against_tokens(groups), "Further left and higher is better."))
    parts.append(section("By environment and kind", _breakdown(environments), "Mean outcome."))
    if quality:
        body = [("scored" if quality_table.is_judged(row) else "baseline", row) for row in quality_table.rows(quality)]
        parts.append(section(_QUALITY, tabular(quality_table.HEADINGS, body), _QUALITY_CAPTION))
        parts.append(section("Calibration", calibration_curves(quality), "Tenths of the states; the line is perfect."))
    if losses:
        parts.append(section("Training", loss_curves(losses), "Loss of each step, and its running mean in blue."))
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    parts.append(section("This run", f"<dl>{rows}</dl>"))
    return PAGE.replace("{{body}}", "\n".join(parts))


def _html_table(rows: Sequence[Row]) -> str:
    return tabular(HEADINGS, [(row_class(row["method"]), cells(row)) for row in rows])


def _breakdown(rows: Sequence[Row]) -> str:
    """Environments and kinds down, methods across."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        key = row["group"], row["environment"], row["kind"], str(row["tasks"])
        lines.setdefault(key, {})[row["method"]] = row["outcome"]
    body = [
        ("", [*key, *(f"{means[method]:.3f}" if method in means else "–" for method in methods)])
        for key, means in lines.items()
    ]
    return tabular(["group", "environment", "kind", "tasks", *methods], body)


def row_class(method: str) -> str:
    """Who chooses in this method, as the page's style names it."""
    if uses_reward_model(method):
        return "scored"
    return "ceiling" if method.startswith(CEILING) else "baseline"

"""The report of an evaluation: `report.html`, `report.md`, and `table`, `environments` and `episodes` as Parquet."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from agentrm.config.schema import Config
from agentrm.evaluation.curves import read_curves
from agentrm.evaluation.metrics import BASELINE, CEILING, summarise
from agentrm.evaluation.plots import loss_curves, outcome_against_tokens, outcome_bars, uses_reward_model
from agentrm.run import RunDirectory

Row = dict[str, Any]

_HEADINGS = (
    "method",
    "outcome",
    "success",
    "gain over sampled mean",
    "distance closed",
    "policy tokens",
    "scored states",
    "environment steps",
    "seconds",
)


def write_report(episodes: pa.Table, output: Path, config: Config, directory: RunDirectory) -> dict[str, Any]:
    """Write the report of `episodes` (see `metrics.summarise`, with `group` and `environment` columns) into `output`.

    Returns the rows of the table as `{group: {method: {column: value}}}`, undefined values as None.
    """
    settings = config.evaluate
    drawn = settings.bootstrap, settings.confidence, config.seed
    table = summarise(episodes, ["group"], *drawn)
    environments = summarise(episodes, ["group", "environment", "kind"], *drawn)
    pq.write_table(episodes, output / "episodes.parquet")
    pq.write_table(table, output / "table.parquet")
    pq.write_table(environments, output / "environments.parquet")
    groups = _grouped(table)
    facts = _facts(config, directory)
    notes = _notes(config, table)
    (output / "report.md").write_text(_markdown(groups, facts, notes))
    losses = _losses(directory)
    (output / "report.html").write_text(_html(groups, environments.to_pylist(), facts, notes, losses))
    return {name: {row["method"]: _plain(row) for row in rows} for name, rows in groups.items()}


def print_results(metrics: Mapping[str, Mapping[str, Row]], console: Console) -> None:
    """Print what `write_report` returned, in short: a table per group that fits 80 columns."""
    for name, methods in metrics.items():
        first = next(iter(methods.values()))
        table = Table(title=f"{name}, {first['tasks']} tasks", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
        table.title_justify, table.title_style = "left", "bold"
        table.add_column("method", no_wrap=True)
        for heading in ("outcome", "success", "closed", "tokens", "seconds"):
            table.add_column(heading, justify="right", no_wrap=True)
        for method, row in methods.items():
            style = "bold cyan" if uses_reward_model(method) else "dim" if method.startswith(CEILING) else ""
            table.add_row(
                method,
                _interval(row, "outcome", "{:.2f}"),
                f"{row['success']:.0%}",
                "–" if row.get("closed") is None else f"{row['closed']:.0%}",
                f"{row['policy_tokens']:,.0f}",
                f"{row['seconds']:.1f}",
                style=style,
            )
        console.print(table)


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


def _cells(row: Row) -> list[str]:
    baseline, ceiling = row["method"] == BASELINE, row["method"].startswith(CEILING)
    return [
        row["method"],
        _interval(row, "outcome", "{:.3f}"),
        _interval(row, "success", "{:.0%}"),
        "" if baseline else _interval(row, "gain", "{:+.3f}"),
        "" if baseline or ceiling else _interval(row, "closed", "{:.0%}"),
        *(f"{row[cost]:,.0f}" for cost in ("policy_tokens", "scored_states", "environment_steps")),
        f"{row['seconds']:.1f}",
    ]


def _interval(row: Row, name: str, form: str) -> str:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None or math.isnan(value):
        return "–"
    return f"{form.format(value)} [{form.format(low)}, {form.format(high)}]"


def _facts(config: Config, directory: RunDirectory) -> dict[str, str]:
    """What was compared, and on what it rests."""
    model = config.model
    versions = directory.metrics("versions")
    facts = {
        "run": Path(config.run).name,
        "policy": f"{model.source}, {model.action_format.value} actions, temperature {config.sampling.temperature:g}",
        "seed": str(config.seed),
        "reward model": _short(directory.metrics("train")),
        "seconds by stage": _short(directory.metrics("seconds")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: text for name, text in facts.items() if text}


def _short(values: Mapping[str, Any]) -> str:
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in numbers.items())


def _notes(config: Config, table: pa.Table) -> list[str]:
    settings = config.evaluate
    notes = [
        f"Brackets: {settings.confidence:.0%} percentile bootstrap intervals over tasks, of {settings.bootstrap:,} "
        "resamples; gains are paired by task.",
        "Distance closed: (method − sampled mean) / (oracle's choice − sampled mean). The oracle picks the best of the "
        "same samples by the true reward, which no method sees: a ceiling for Best-of-N, not for beam search.",
        "The shortest of N and beam search with random scores use no reward model: a gain that they have too is no "
        "merit of it.",
        "Costs are means per task. Tasks run side by side and share the machine, so seconds include waiting.",
    ]
    failed = {row["group"]: row["failed"] for row in table.to_pylist() if row["failed"]}
    if failed:
        text = ", ".join(f"{count} in {name}" for name, count in failed.items())
        notes.append(f"Left out because the environment failed in some method: {text}.")
    return notes


def _losses(directory: RunDirectory) -> dict[str, Sequence[tuple[int, float]]]:
    names = {"clone": "policy, cross entropy", "train": "reward model, squared error"}
    curves = {title: read_curves(directory.root / "work" / stage).get("loss", []) for stage, title in names.items()}
    return {title: points for title, points in curves.items() if points}


def _markdown(groups: Mapping[str, list[Row]], facts: Mapping[str, str], notes: Sequence[str]) -> str:
    lines = ["# AgentRM evaluation", "", *(f"- {name}: {text}" for name, text in facts.items())]
    for name, rows in groups.items():
        lines += ["", f"## {name} ({rows[0]['tasks']} tasks)", ""]
        lines.append("| " + " | ".join(_HEADINGS) + " |")
        lines.append("|---|" + "---:|" * (len(_HEADINGS) - 1))
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _html(
    groups: Mapping[str, list[Row]],
    environments: Sequence[Row],
    facts: Mapping[str, str],
    notes: Sequence[str],
    losses: Mapping[str, Sequence[tuple[int, float]]],
) -> str:
    parts = [f"<header><h1>AgentRM evaluation</h1><p>{html.escape(facts['run'])}</p></header>"]
    parts.append(_LEGEND)
    parts.append(_section("Outcome", outcome_bars(groups), "Bars: mean over tasks; whiskers: interval."))
    parts += [_section(f"{name}, {rows[0]['tasks']} tasks", _html_table(rows)) for name, rows in groups.items()]
    parts.append(
        "<section><ul class=notes>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul></section>"
    )
    parts.append(_section("Outcome against cost", outcome_against_tokens(groups), "Further left and higher is better."))
    parts.append(_section("By environment and kind", _breakdown(environments), "Mean outcome."))
    if losses:
        parts.append(_section("Training", loss_curves(losses), "Loss of each step, and its running mean in blue."))
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    parts.append(_section("This run", f"<dl>{rows}</dl>"))
    return _PAGE.replace("{{body}}", "\n".join(parts))


def _section(title: str, body: str, caption: str = "") -> str:
    below = f"<p class=caption>{html.escape(caption)}</p>" if caption else ""
    return f"<section><h2>{html.escape(title)}</h2><div class=wide>{body}</div>{below}</section>"


def _html_table(rows: Sequence[Row]) -> str:
    return _table(_HEADINGS, [(_kind(row["method"]), _cells(row)) for row in rows])


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
    return _table(["group", "environment", "kind", "tasks", *methods], body)


def _table(headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr class='{kind}'>" + "".join(f"<td>{_value(cell)}</td>" for cell in cells) + "</tr>" for kind, cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _value(cell: str) -> str:
    value, bracket, interval = html.escape(cell).partition(" [")
    return f"{value} <small>[{interval}</small>" if bracket else value


def _kind(method: str) -> str:
    if uses_reward_model(method):
        return "scored"
    return "ceiling" if method.startswith(CEILING) else "baseline"


_LEGEND = (
    "<p class=legend><span class=scored>the reward model chooses</span><span class=baseline>no reward model</span>"
    "<span class=ceiling>the oracle chooses</span></p>"
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>AgentRM evaluation</title>
<style>
:root {
  --page: #f8fafc; --card: #ffffff; --ink: #0f172a; --soft: #64748b; --line: #cbd5e1; --tint: #eff6ff;
  --scored: #3b82f6; --baseline: #94a3b8; --ceiling: #f59e0b;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #0b1120; --card: #111a2e; --ink: #e2e8f0; --soft: #94a3b8; --line: #334155; --tint: #16233f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1rem 4rem; }
header { display: flex; align-items: baseline; gap: 1rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
header p, .caption, .notes, small { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section { padding: 1.1rem 1.25rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
.caption { margin: .5rem 0 0; font-size: .85rem; }
.notes { margin: 0; padding-left: 1.1rem; font-size: .85rem; }
svg { max-width: 100%; height: auto; color: var(--ink); font-family: inherit; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .88rem; }
th { color: var(--soft); font-weight: 500; text-align: right; vertical-align: bottom; padding: .3rem .6rem; }
td { text-align: right; padding: .4rem .6rem; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.scored td { background: var(--tint); font-weight: 600; }
tr.scored small { font-weight: 400; }
tr.scored td:first-child { box-shadow: inset 3px 0 var(--scored); }
tr.ceiling td:first-child { box-shadow: inset 3px 0 var(--ceiling); }
tr.baseline td:first-child { box-shadow: inset 3px 0 var(--baseline); }
.legend span { margin-right: 1.25rem; color: var(--soft); font-size: .85rem; }
.legend span::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .45em; }
.legend .scored::before { background: var(--scored); }
.legend .baseline::before { background: var(--baseline); }
.legend .ceiling::before { background: var(--ceiling); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0; font-size: .88rem; }
dt { color: var(--soft); }
dd { margin: 0; }
</style>
</head>
<body><main>
{{body}}
</main></body>
</html>
"""

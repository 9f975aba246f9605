"""Tables of results in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import reduce
from math import isnan
from operator import add
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from agentrm.evaluation.experiments import Experiment
from agentrm.evaluation.metrics import CEILING, Interval
from agentrm.evaluation.paper import COLUMNS
from agentrm.evaluation.paper import Row as PaperRow
from agentrm.reports import quality_table
from agentrm.reports.comparison import cells, headings, shown
from agentrm.reports.plots import uses_reward_model
from jobs.terminal.console import console

if TYPE_CHECKING:
    from agentrm.cluster.cost import Cost

Row = dict[str, Any]


def print_results(metrics: Mapping[str, Mapping[str, Row]], terminal: Console) -> None:
    """Print what `write_report` returned, in short: a row per method and a column per group, in 80 columns. A method in
    which the reward model chooses has its lead over the best of those that need none below its outcome.
    """
    table = Table(title="mean outcome", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.title_justify, table.title_style = "left", "bold"
    table.add_column("method", no_wrap=True)
    for name, methods in metrics.items():
        heading = "\n".join([*name.rsplit(" ", 1), f"{next(iter(methods.values()))['tasks']} tasks"])
        table.add_column(heading, justify="right", no_wrap=True)
    for method in dict.fromkeys(method for methods in metrics.values() for method in methods):
        rows = [methods.get(method, {}) for methods in metrics.values()]
        leads = any(row.get("rival") for row in rows)
        table.add_row(
            f"{method}\n  lead over best without" if leads else method,
            *(_outcome(row) for row in rows),
            style="bold cyan" if uses_reward_model(method) else "dim" if method.startswith(CEILING) else "",
        )
    terminal.print(table)


def _outcome(row: Row) -> str:
    if not row:
        return "–"
    if not row.get("rival"):
        return f"{row['outcome']:.2f}"
    lead, low, high = (row[f"best_lead{end}"] for end in ("", "_low", "_high"))
    # Without the zeros three of them fit 80 columns.
    return f"{row['outcome']:.2f}\n" + f"{lead:+.2f} [{low:.2f},{high:.2f}]".replace("0.", ".")


def print_costs(costs: Mapping[str, Mapping[str, Cost]], terminal: Console) -> None:
    """Print what is still to be done, by run and stage, and its sum."""
    if not costs:
        terminal.print("all of it is there already")
        return
    headings = ("run", "stage", "episodes", "tokens read", "written", "scored", "trained on", "GPU hours")
    table = Table(*headings, title="what it will cost, to a factor of about three", box=box.SIMPLE_HEAD)
    for column in table.columns[2:]:
        column.justify = "right"
    for name, stages in costs.items():
        for stage, cost in stages.items():
            table.add_row(name, stage, *_amounts(cost))
    total = reduce(add, (cost for stages in costs.values() for cost in stages.values()))
    table.add_section()
    table.add_row("all", "", *_amounts(total))
    terminal.print(table)


def _amounts(cost: Cost) -> list[str]:
    tokens = (cost.read, cost.written, cost.scored, cost.trained)
    shown = [f"{cost.episodes:,.0f}", *(f"{count / 1e6:,.1f}M" for count in tokens), f"{cost.gpu_hours:,.1f}"]
    return ["–" if value == 0 else text for value, text in zip(astuple(cost), shown, strict=True)]


def print_paper(rows: Sequence[PaperRow], terminal: Console) -> None:
    """Print the paper's rows, in percent: ours with its interval, and the paper's where its tasks are ours."""
    table = Table("method", *COLUMNS, title="ours, and the paper's in brackets", box=box.SIMPLE_HEAD)
    for row in rows:
        pairs = zip(row.means, row.paper, strict=True)
        table.add_row(row.method, *(_percent(mean) + _beside(paper) for mean, paper in pairs))
    terminal.print(table)


def _percent(mean: Interval) -> str:
    return "–" if isnan(mean.value) else f"{mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}]"


def _beside(paper: float | None) -> str:
    return "" if paper is None else f" ({paper:.1f})"


def print_comparison(rows: Sequence[Row], experiment: Experiment, terminal: Console) -> None:
    """Print a table per test."""
    for test, test_rows in shown(rows, experiment).items():
        table = Table(title=test, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
        table.title_justify, table.title_style = "left", "bold"
        for number, heading in enumerate(headings(experiment)):
            table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number > 2)
        for row in test_rows:
            table.add_row(*cells(row))
        terminal.print(table)


def print_quality(quality: Mapping[str, Any], as_json: bool) -> None:
    """Print figures of `quality` as the report does."""

    if as_json:
        typer.echo(json.dumps(quality, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in quality_table.HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in quality_table.rows(quality):
        table.add_row(*row)
    terminal = console()
    terminal.print(table)
    for sentence in [*quality_table.probabilities(quality), *quality_table.verdicts(quality)]:
        terminal.print(sentence, markup=False)

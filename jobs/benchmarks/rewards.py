"""Benchmarks of agent reward models, from the user's copies: `agentrm benchmark rewards --data DIRECTORY`.

Beside the model stands what needs none: all equal, the shorter one wins, and random. They need no --model.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from agentrm.core.errors import UserError
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards.benchmark import Candidate, Case, Measure, Scores
from agentrm.evaluation.rewards.suite import find, measured
from agentrm.evaluation.rewards.values import Scoring, step_values, whole_value
from jobs.score import Source
from jobs.terminal.console import console
from jobs.terminal.progress import progress

_SHOWN = 10

Measures = dict[str, dict[str, list[Measure]]]
"""By benchmark, and by who gave the values."""


def run(directory: Path, source: Source | None, settings: Settings, as_json: bool = False) -> Measures:
    """Measure all benchmarks whose files lie in a directory; prints and returns all figures. Raises UserError where
    there are none.
    """
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}: name the one that holds the benchmarks with --data")
    data = find(directory)
    for problem in data.problems[:_SHOWN]:
        print(f"left out: {problem}", file=sys.stderr)
    if data.problems:
        print(f"{len(data.problems)} records were left out", file=sys.stderr)
    scores = _scores(data.cases, source) if source else {}
    figures = {name: measured(name, cases, scores.get(name), settings) for name, cases in data.cases.items()}
    if as_json:
        print(json.dumps(_plain(figures), indent=2))
    else:
        _show(figures)
    return figures


def _scores(cases: dict[str, list[Case]], source: Source) -> dict[str, list[Scores]]:
    """A model's values of all candidates."""
    unread = 0
    total = sum(len(case.candidates) for own in cases.values() for case in own)

    async def score(scoring: Scoring) -> dict[str, list[Scores]]:
        lanes = asyncio.Semaphore(source.lanes)

        async def one(candidate: Candidate) -> list[float]:
            nonlocal unread
            async with lanes:
                stepwise = len(candidate.lengths) > 1
                values = await (step_values if stepwise else whole_value)(scoring, candidate.conversation)
            unread += bool(values.refused)
            bar.advance()
            return [-inf if value is None else value for value in values.steps]

        async def all_of(case: Case) -> Scores:
            return await asyncio.gather(*map(one, case.candidates))

        return {name: list(await asyncio.gather(*map(all_of, own))) for name, own in cases.items()}

    with progress("conversations", total) as bar:
        scores = source.run(score)
    if unread:
        print(f"{unread} of {total} conversations were not read to their end: they count as worst", file=sys.stderr)
    return scores


def _plain(figures: Measures) -> dict[str, Any]:
    def row(measure: Measure) -> dict[str, Any]:
        figure = {key: None if value != value else value for key, value in asdict(measure.figure).items()}
        return {"group": measure.group, "measure": measure.name, "cases": measure.cases, **figure}

    return {name: {who: [row(measure) for measure in own] for who, own in by.items()} for name, by in figures.items()}


def _show(figures: Measures) -> None:
    for name, by in figures.items():
        table = Table("", "measure", "cases", *by, box=box.SIMPLE_HEAD, title=name)
        for rows in zip(*by.values(), strict=True):
            table.add_row(rows[0].group, rows[0].name, str(rows[0].cases), *(_cell(measure) for measure in rows))
        console().print(table)


def _cell(measure: Measure) -> str:
    figure = measure.figure
    if figure.value != figure.value:
        return "–"
    return f"{figure.value:.3f}" + ("" if figure.low != figure.low else f" [{figure.low:.3f}, {figure.high:.3f}]")

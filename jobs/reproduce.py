"""One of the paper's tables for one's own model: the pipeline or the experiments behind it, what they will cost, and
the paper's figures beside ours.

    agentrm reproduce main --preset llama3-8b --plan

What a run directory already holds costs nothing and is not done again, so what was stopped goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pyarrow.parquet as pq
import typer

from agentrm.cluster.cost import Cost, cost
from agentrm.config.schema import Config
from agentrm.core.errors import UserError, chosen
from agentrm.evaluation.experiments import EXPERIMENTS, TABLES
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.paper import paper_rows
from agentrm.run import STAGES, RunDirectory, alike
from jobs import experiment, pipeline
from jobs.terminal.console import console
from jobs.terminal.tables import print_costs, print_paper

_EVALUATION = "evaluation"


def run(config: Config, table: str, *, only_plan: bool, agreed: bool) -> Mapping[str, Mapping[str, Cost]]:
    """Print what a table lacks and will cost, by run and stage; then, unless `only_plan`, do it once the user has
    `agreed`, and print the table. Raises UserError for an unknown table, as the experiments do, and where nobody can be
    asked.
    """
    names = chosen("table", table, TABLES)
    costs = missing(config, table)
    print_costs(costs, console())
    if only_plan:
        return costs
    if costs and not agreed:
        if not sys.stdin.isatty():
            raise UserError("nobody is here to agree to that: add --yes, or --plan to see it alone")
        typer.confirm("Start?", abort=True)
    if not names:
        pipeline.run(config)
        episodes = pq.read_table(RunDirectory.open(config).path(_EVALUATION) / "episodes.parquet")
        print_paper(paper_rows(episodes, Settings.of(config)), console())
    for name in names:
        experiment.run(config, name)
        print(f"In the paper: {EXPERIMENTS[name].paper}")
    return costs


def missing(config: Config, table: str) -> dict[str, dict[str, Cost]]:
    """What the stages cost that are not there yet: of the run, and of each variant of the table's experiments. Nothing
    is made.
    """
    stages = {stage.folder for stage in STAGES if stage.folder != "demonstrations"}
    planned = {name: experiment.plan(config, name) for name in TABLES[table]}
    borrowed = {folder for variants in planned.values() for variant in variants for folder in variant.borrowed}
    runs = {"the run itself": (config, stages & borrowed if planned else {*stages, _EVALUATION})}
    runs |= {
        f"{name}, {variant.name}": (variant.config, {*variant.own, _EVALUATION})
        for name, variants in planned.items()
        for variant in variants
    }
    costs = {}
    for name, (own, needed) in runs.items():
        directory = RunDirectory(own.run, own)
        order = [*(stage.folder for stage in STAGES), _EVALUATION]
        lender = directory.lender()
        lent = [] if lender is None else [folder for folder in alike(lender.config, own) if lender.finished(folder)]
        lacking = [
            folder for folder in order if folder in needed and folder not in lent and not directory.finished(folder)
        ]
        if directory.finished(_EVALUATION) or not lacking:
            continue
        costs[name] = {folder: cost(own, folder) for folder in lacking}
    return costs

"""One of the paper's experiments: the runs that it compares, as far as they are missing, then its table and plots.

    python -m jobs.experiment reward-kinds --preset quickstart run=runs/quickstart

The run is the base of all variants. Each of them is a run of its own beneath `experiments/NAME/runs`, made with some
keys changed, and takes over by links what these do not change. Killed and started again, it goes on.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentrm import storage
from agentrm.config.loading import changed
from agentrm.config.schema import Config
from agentrm.evaluation.experiments import EXPERIMENTS, variants
from agentrm.reports.comparison import gather, write
from agentrm.run import RunDirectory, alike
from jobs import clone, evaluate, train, trees
from jobs.runtime import cluster, main
from jobs.terminal.console import console
from jobs.terminal.tables import print_comparison

_STAGES = {"policy": clone, "trees": trees, "reward_model": train}


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant's configuration, the folders of stages that it takes over from the base run, and those of its `own`."""

    name: str
    config: Config
    borrowed: frozenset[str]
    own: frozenset[str]


def plan(config: Config, experiment: str) -> list[Variant]:
    """The variants of an experiment; nothing is made. Raises UserError as `experiments.variants` does."""
    output = storage.absolute(config.run) + f"/experiments/{experiment}"
    planned = []
    for name, overrides in variants(experiment, config).items():
        own = replace(changed(config, overrides), run=f"{output}/runs/{name}")
        needed = {"policy", "trees", "reward_model"} if own.evaluate.scored else {"policy"}
        borrowed = {*alike(config, own), *EXPERIMENTS[experiment].lent} & {*needed, "demonstrations"}
        # Whoever has a reward model needs no trees.
        left = needed - borrowed - ({"trees"} if "reward_model" in borrowed else set())
        planned.append(Variant(name, own, frozenset(borrowed), frozenset(left)))
    return planned


def run(config: Config, experiment: str) -> list[dict[str, Any]]:
    """Run what is missing, write the report, show its table; returns the rows of `comparison.compare`.

    Raises UserError as `experiments.variants` does, and for a variant that was run with other keys.
    """
    todo, about = plan(config, experiment), EXPERIMENTS[experiment]
    base = RunDirectory.open(config)
    output = base.at(f"experiments/{experiment}")
    runs = {variant.name: RunDirectory.open(variant.config, evaluated=True) for variant in todo}
    with cluster(config):
        for folder, stage in _STAGES.items():
            if any(folder in variant.borrowed for variant in todo):
                stage.run(config)
        for variant in todo:
            print(f"== {variant.name}", file=sys.stderr)
            runs[variant.name].borrow(base, variant.borrowed)
            if runs[variant.name].finished("evaluation"):
                continue
            for folder, stage in _STAGES.items():
                if folder in variant.own:
                    stage.run(variant.config)
            evaluate.run(variant.config)
    with tempfile.TemporaryDirectory() as folder:
        rows = write(experiment, about, gather(runs, config, about.by_kind), config, Path(folder))
        storage.copy(folder, output)
    print_comparison(rows, about, console())
    print(f"report: {output}/report.html")
    return rows


if __name__ == "__main__":
    main(run, experiment=tuple(EXPERIMENTS))

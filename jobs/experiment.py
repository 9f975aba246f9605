"""One of the paper's experiments: the runs that it compares, as far as they are missing, then its table and plots.

    python -m jobs.experiment reward-kinds --preset quickstart run=runs/quickstart

The run is the base of all variants. Each of them is a run of its own beneath `experiments/NAME/runs`, made with some
keys changed, and takes over by links what these do not change. Killed and started again, it goes on.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
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
from jobs.terminal.tables import console, print_comparison

_STAGES = {"policy": clone, "trees": trees, "reward_model": train}


def run(config: Config, experiment: str) -> list[dict[str, Any]]:
    """Run what is missing, write the report, show its table; returns the rows of `comparison.compare`.

    Raises UserError as `experiments.variants` does, and for a variant that was run with other keys.
    """
    plan, about = variants(experiment, config), EXPERIMENTS[experiment]
    base = RunDirectory.open(config)
    output = base.at(f"experiments/{experiment}")
    configs = {
        variant: replace(changed(config, overrides), run=f"{output}/runs/{variant}")
        for variant, overrides in plan.items()
    }
    runs = {variant: RunDirectory.open(each, evaluated=True) for variant, each in configs.items()}
    borrowed = {variant: {*alike(config, each), *about.lent} for variant, each in configs.items()}
    with cluster(config):
        for folder, stage in _STAGES.items():
            if any(folder in folders for folders in borrowed.values()):
                stage.run(config)
        for variant, each in configs.items():
            print(f"== {variant}", file=sys.stderr)
            runs[variant].borrow(base, borrowed[variant])
            _finish(each, runs[variant])
    with tempfile.TemporaryDirectory() as folder:
        rows = write(experiment, about, gather(runs, config, about.by_kind), config, Path(folder))
        storage.copy(folder, output)
    print_comparison(rows, about, console())
    print(f"report: {output}/report.html")
    return rows


def _finish(config: Config, directory: RunDirectory) -> None:
    if directory.finished("evaluation"):
        return
    clone.run(config)
    if not directory.finished("reward_model"):
        trees.run(config)
        train.run(config)
    evaluate.run(config)


if __name__ == "__main__":
    main(run, experiment=tuple(EXPERIMENTS))

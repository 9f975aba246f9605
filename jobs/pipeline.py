"""The whole pipeline: clone, trees, train, evaluate; stages that the run directory already holds are skipped. Without
`tasks.trees` there is no reward model: the policy alone is evaluated.

python -m jobs.pipeline --preset quickstart
"""

from __future__ import annotations

import sys
import time
from typing import Any

from agentrm.config.schema import Config
from agentrm.run import RunDirectory
from jobs import clone, evaluate, train, trees
from jobs.runtime import cluster, main


def run(config: Config) -> dict[str, Any]:
    """Run what is missing; returns each stage's metrics and seconds."""
    directory = RunDirectory.open(config)
    metrics: dict[str, Any] = {}
    seconds: dict[str, float] = directory.metrics("seconds")
    learning = (("trees", trees), ("train", train)) if config.tasks.trees or directory.finished("trees") else ()
    if not learning:
        # Cloning takes hours, and without trees no reward model comes of it.
        evaluate.reward_model_for(directory, config.evaluate.methods)
    with cluster(config):
        for name, stage in (("clone", clone), *learning, ("evaluate", evaluate)):
            started = time.monotonic()
            print(f"== {name}", file=sys.stderr)
            metrics[name] = stage.run(config)
            seconds.setdefault(name, round(time.monotonic() - started, 1))
            directory.write_metrics("seconds", seconds)
    return metrics | {"seconds": seconds}


if __name__ == "__main__":
    main(run)

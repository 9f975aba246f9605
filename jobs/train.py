"""The explicit reward model: a scalar head learns the values of the states in the search trees.

    python -m jobs.train --preset quickstart train.epochs=1

Trees whose task falls among `train.held_out_trees` are not trained on; the metrics are measured on them.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from agentrm.config.schema import Config
from agentrm.data.states import StateSamples, held_out, samples
from agentrm.data.trees import TreeStore
from agentrm.errors import UserError
from agentrm.evaluation.quality import quality
from agentrm.models import explicit
from agentrm.models.rendering import Renderer
from agentrm.run import RunDirectory
from agentrm.search.tree import Tree
from jobs.fitting import fit_with_progress, starting_model, store_model
from jobs.runtime import cluster, main

_VERIFIED_STATES = 8


def run(config: Config) -> dict[str, Any]:
    """Make `reward_model/`, unless it is there; returns the metrics on the held-out trees."""
    directory = RunDirectory.open(config)
    if directory.finished("reward_model"):
        return directory.metrics("train")
    store = TreeStore(directory.require("trees", "trees"))
    source = directory.require("policy", "clone") if config.train.base == "policy" else Path(config.train.base)
    started = time.monotonic()
    work = directory.work("train")
    base = starting_model(work, lambda target: explicit.build(source, target))
    renderer = Renderer.from_pretrained(base, config.model.context)
    fraction = config.train.held_out_trees
    trees = [tree for tree in store.trees() if held_out(tree.task, fraction)]
    training = samples((tree for tree in store.trees() if not held_out(tree.task, fraction)), renderer)
    testing = samples(trees, renderer)
    if len(testing.sequences) < config.train.workers:
        raise UserError(f"train.held_out_trees={fraction} keeps only {len(trees)} trees: raise it or grow more trees")
    with cluster(config):
        trained = fit_with_progress(
            "reward_model", base, training.sequences, testing.sequences, config.train, config.seed, work
        )
    assert trained.values is not None
    values = trained.values.tolist()
    with directory.writing("reward_model") as output:
        metrics = store_model(trained, work, output) | {
            "held_out": quality(trees, _by_tree(testing, values, len(trees))),
            "export_difference": _verify(output, renderer, trees, testing, values),
            "states": len(training.owners),
            "over_context": training.overflows + testing.overflows,
            "tokens_per_epoch": len(training.sequences.ids),
            "seconds": round(time.monotonic() - started, 1),
        }
        directory.write_metrics("train", metrics)
    shutil.rmtree(work)
    return metrics


def _by_tree(testing: StateSamples, values: list[float], trees: int) -> list[dict[int, float]]:
    found: list[dict[int, float]] = [{} for _ in range(trees)]
    for (tree, node), value in zip(testing.owners, values, strict=True):
        found[tree][node] = value
    return found


def _verify(output: Path, renderer: Renderer, trees: list[Tree], testing: StateSamples, values: list[float]) -> float:
    """Compare the export with the trained weights on states that are spread over the held-out ones."""
    chosen = range(0, len(values), max(1, len(values) // _VERIFIED_STATES))
    states = [trees[tree].state(node) for tree, node in (testing.owners[i] for i in chosen)]
    return explicit.verify(output, [renderer.ids(state.messages()) for state in states], [values[i] for i in chosen])


if __name__ == "__main__":
    main(run)

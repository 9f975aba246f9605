"""The reward model learns the values of the states in the search trees: a scalar head, or a log-probability ratio.

    python -m jobs.train --preset quickstart train.epochs=1

Trees whose task falls among `train.held_out_trees`, or is not of the split `train`, are not trained on: the metrics are
measured on them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from agentrm import storage
from agentrm.config.schema import Config, RewardKind
from agentrm.config.tasks import learned_kinds
from agentrm.core.errors import UserError
from agentrm.core.tree import Tree
from agentrm.data.states import StateSamples, held_out, learned, samples
from agentrm.data.trees import TreeStore
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import quality
from agentrm.models import ensemble, explicit, implicit
from agentrm.models.ensemble import lower_confidence, member
from agentrm.rendering.renderer import Renderer, settle_use
from agentrm.reports.card import card
from agentrm.run import RunDirectory
from jobs.fitting import fit_with_progress, starting_model, store_model
from jobs.runtime import cluster, main

_VERIFIED_STATES = 8


def run(config: Config) -> dict[str, Any]:
    """Make `reward_model/`, unless it is there; returns the metrics on the held-out trees."""
    directory = RunDirectory.open(config)
    if directory.finished("reward_model"):
        return directory.metrics("train")
    store = TreeStore(directory.require("trees", "trees"))
    base_is_policy = config.train.base == "policy"
    source = directory.require("policy", "clone") if base_is_policy else storage.absolute(config.train.base)
    started = time.monotonic()
    work = directory.work("train")
    settings = config.train
    base = starting_model(work, lambda target: _build(config, storage.fetch(source), target))
    is_implicit = settings.kind is not RewardKind.explicit
    renderer = Renderer.from_pretrained(storage.fetch(base), config.model.context)
    fraction = settings.held_out_trees
    trees = [tree for tree in store.trees() if held_out(tree.task, fraction)]
    kept = (tree for tree in store.trees() if not held_out(tree.task, fraction) and learned(tree.task, settings.labels))
    training = samples(kept, renderer, settings.labels, implicit=is_implicit)
    if not training.owners:
        raise UserError(
            "train.labels leaves no state to learn from: lower min_visits, raise share or grow more trees of the split "
            "train"
        )
    sequences = training.sequences
    testing = samples(trees, renderer, implicit=is_implicit)
    if not is_implicit:
        explicit.check_padding(storage.fetch(base), np.concatenate([training.sequences.ids, testing.sequences.ids]))
    kinds = learned_kinds(config)
    ours = sum(f"{tree.task.environment}.{tree.task.kind}" in kinds for tree in trees)
    if not ours or len(testing.sequences) < settings.workers:
        raise UserError(
            f"train.held_out_trees={fraction} keeps {ours} trees of kinds that are learned from: raise it, or add such "
            "tasks of the split valid to tasks.trees"
        )
    works = [member(work, number) for number in range(settings.ensemble.members)]
    with cluster(config):
        fits = [
            fit_with_progress("reward_model", base, sequences, testing.sequences, config, own, config.seed + number)
            for number, own in enumerate(works)
        ]
    values = [trained.values.tolist() for trained in fits if trained.values is not None]
    predicted = _by_tree(testing, lower_confidence(values, settings.ensemble.penalty), len(trees))
    beside = {"first member": _by_tree(testing, values[0], len(trees))} if len(values) > 1 else {}
    with directory.writing("reward_model") as output:
        figures, differences = [], []
        for number, (trained, own) in enumerate(zip(fits, works, strict=True)):
            target = Path(member(str(output), number))
            if is_implicit:
                final = member(directory.at("reward_model"), number)
                implicit.describe(trained.directory, settings.beta, _reference(source, final))
            figures.append(store_model(trained, own, target))
            differences.append(_verify(config, target, renderer, trees, testing, values[number]))
        if len(fits) > 1:
            ensemble.describe(output, len(fits), settings.ensemble.penalty)
        metrics = figures[0] | {
            "held_out": quality(trees, predicted, Settings.of(config), kinds, beside),
            "export_difference": max(differences),
            "states": len(training.owners),
            "over_context": training.overflows + testing.overflows,
            "tokens_per_epoch": len(sequences.ids),
            "seconds": round(time.monotonic() - started, 1),
        }
        (output / "README.md").write_text(card(config, metrics))
        directory.write_metrics("train", metrics)
    storage.delete(work)
    return metrics


def _reference(source: str, model: str) -> str:
    """How an implicit reward model at the location `model` finds the policy that it was trained from.

    A run that is moved takes its policy along; one at a URI has no directories that lie beside each other.
    """
    return source if storage.is_uri(source) or storage.is_uri(model) else os.path.relpath(source, model)


def _by_tree(testing: StateSamples, values: list[float], trees: int) -> list[dict[int, float]]:
    found: list[dict[int, float]] = [{} for _ in range(trees)]
    for (tree, node), value in zip(testing.owners, values, strict=True):
        found[tree][node] = value
    return found


def _build(config: Config, source: Path, target: Path) -> None:
    if config.train.kind is RewardKind.explicit:
        explicit.build(source, target, config.train.representation, config.model.action_format)
    else:
        implicit.copy(source, target)
    settle_use(target, config.model)


def _verify(
    config: Config,
    output: Path,
    renderer: Renderer,
    trees: list[Tree],
    testing: StateSamples,
    values: list[float],
) -> float:
    """Compare the export with the trained weights on states that are spread over the held-out ones."""
    chosen = range(0, len(values), max(1, len(values) // _VERIFIED_STATES))
    states = [trees[tree].state(node) for tree, node in (testing.owners[i] for i in chosen)]
    expected = [values[i] for i in chosen]
    if config.train.kind is not RewardKind.explicit:
        return implicit.verify(output, config.model.context, states, expected)
    return explicit.verify(output, [renderer.ids(state.conversation()) for state in states], expected)


if __name__ == "__main__":
    main(run)

"""The reward model learns the values in the trees, of states and actions: a scalar head, or a log-probability ratio.

    python -m jobs.train --preset quickstart train.epochs=1

Trees whose task falls among `train.held_out_trees`, or is not of the split `train`, are not trained on: the metrics are
measured on them. No environment is asked for anything, so that trees may come from wherever they do.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from agentrm import model_directory, storage
from agentrm.config.schema import Config, Labels, Loss, RewardKind, is_endpoint
from agentrm.core.errors import UserError
from agentrm.core.messages import text_of
from agentrm.core.tree import Tree
from agentrm.data.states import StateSamples, held_out, learned, samples
from agentrm.data.trees import TreeStore
from agentrm.evaluation import calibration
from agentrm.evaluation.held_out import HeldOut
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import OF_ACTIONS
from agentrm.models import adapters, ensemble, explicit, implicit
from agentrm.models.ensemble import lower_confidence, member
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer, settle_overflow, settle_use
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
    source = _source(directory)
    started = time.monotonic()
    work = directory.work("train")
    settings = config.train
    base = starting_model(work, lambda target: _build(config, source, store, target))
    is_implicit = settings.kind is not RewardKind.explicit
    renderer = Renderer.from_pretrained(storage.fetch(base), config.model.context)
    fraction = settings.held_out_trees
    trees = [tree for tree in store.trees() if held_out(tree.task, fraction)]
    kinds: Counter[str] = Counter()
    training = samples(
        _learned(store, config, kinds),
        renderer,
        settings.labels,
        implicit=is_implicit,
        loss=settings.loss,
        budget=settings.tokens_per_batch,
    )
    _check_learned(config, kinds, training)
    if training.rewritten:
        print(
            f"the chat template of {source or config.model.source} changes earlier turns: {training.rewritten} of "
            f"{len(training.sequences)} sequences hold a state that the next one writes otherwise; "
            "train.template=append_only reads each token once",
            file=sys.stderr,
        )
    sequences = training.sequences
    testing = samples(trees, renderer, Labels(at=settings.labels.at), implicit=is_implicit)
    if not is_implicit:
        explicit.check_padding(storage.fetch(base), np.concatenate([training.sequences.ids, testing.sequences.ids]))
    ours = sum(_kind(tree) in kinds for tree in trees)
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
    together = lower_confidence(values, settings.ensemble.penalty)
    beside = {"first member": values[0]} if len(values) > 1 else {}
    measured = [HeldOut(trees, testing, end, settings.loss, together, beside) for end in settings.labels.at]
    with directory.writing("reward_model") as output:
        figures, differences = [], []
        for number, (trained, own) in enumerate(zip(fits, works, strict=True)):
            target = Path(member(str(output), number))
            if is_implicit:
                final = member(directory.at("reward_model"), number)
                implicit.describe(trained.directory, settings.beta, _reference(source, final))
            if settings.lora.keep:
                adapters.name_base(trained.directory, _reference(source, member(directory.at("reward_model"), number)))
            figures.append(store_model(trained, own, target))
            differences.append(_verify(config, target, trees, testing, values[number]))
        if len(fits) > 1:
            ensemble.describe(output, len(fits), settings.ensemble.penalty)
        calibration.write(output, {measurement.end: measurement.calibration() for measurement in measured})
        metrics = figures[0] | {
            "held_out": _quality(config, measured, kinds),
            "export_difference": max(differences),
            "trees_learned": dict(sorted(kinds.items())),
            "states": len(training.owners),
            "rewritten": training.rewritten,
            "over_context": training.overflows + testing.overflows,
            "shortened": training.shortened + testing.shortened,
            "tokens_per_epoch": len(sequences.ids),
            "seconds": round(time.monotonic() - started, 1),
        }
        if sequences.pairs is not None:
            metrics |= {"pairs": len(sequences.pairs), "pairs_over_batch": training.apart}
        (output / "README.md").write_text(card(config, metrics))
        directory.write_metrics("train", metrics)
    storage.delete(work)
    return metrics


def _quality(config: Config, measured: Sequence[HeldOut], learned: Collection[str]) -> dict[str, Any]:
    """The figures of `quality`, those of actions apart where states have theirs."""
    first, *others = (measurement.quality(Settings.of(config), learned) for measurement in measured)
    return first | {f"{name}{OF_ACTIONS}": group for measurement in others for name, group in measurement.items()}


def _source(directory: RunDirectory) -> str:
    """The location of the model that the fit starts from; empty for the untrained one of `model.source`. Raises
    UserError where there is none.
    """
    base, model = directory.config.train.base, directory.config.model
    if base == "model":
        if is_endpoint(model.source):
            raise UserError(f"train.base=model starts from model.source, and {model.source} has no weights here")
        return ""
    if base != "policy":
        return storage.absolute(base)
    if not directory.finished("policy"):
        raise UserError(
            f"{directory.at('policy')} is not there: run `agentrm clone` first, or name what to start from as "
            "train.base: a directory, or model for model.source as it is"
        )
    return directory.at("policy")


def _learned(store: TreeStore, config: Config, kinds: Counter[str]) -> Iterator[Tree]:
    """The trees that are learned from; `kinds` counts them by ENVIRONMENT.KIND."""
    for tree in store.trees():
        if not held_out(tree.task, config.train.held_out_trees) and learned(tree.task, config.train.labels):
            kinds[_kind(tree)] += 1
            yield tree


def _check_learned(config: Config, kinds: Counter[str], training: StateSamples) -> None:
    """Raise UserError where there is nothing to learn from, or nothing of an environment that is named."""
    known = {*kinds, *(kind.partition(".")[0] for kind in kinds)}
    labels, loss = config.train.labels, config.train.loss
    for name in labels.environments:
        if name not in known:
            raise UserError(f"train.labels.environments holds {name}, of which there is no tree to learn from")
    if loss is Loss.bradley_terry and not training.owners:
        raise UserError(
            f"train.loss=bradley_terry finds no pair whose {labels.of.value} differ: of siblings, or with "
            "train.labels.of=outcomes of the ends of one task's episodes"
        )
    if not training.owners:
        raise UserError(
            f"train.labels leaves no state to learn from (of={labels.of.value}): lower min_visits, raise share or grow "
            "more trees of the split train"
        )


def _kind(tree: Tree) -> str:
    return f"{tree.task.environment}.{tree.task.kind}"


def _reference(source: str, model: str) -> str:
    """How an implicit reward model or an adapter at the location `model` finds the model that it was trained from.

    A run that is moved takes its policy along; one at a URI has no directories that lie beside each other.
    """
    return source if storage.is_uri(source) or storage.is_uri(model) else os.path.relpath(source, model)


def _build(config: Config, source: str, store: TreeStore, target: Path) -> None:
    """Write the untrained reward model."""
    if not source:
        with TemporaryDirectory() as made:
            prepare(config.model, _texts(store), config.seed, Path(made))
            _build(config, made, store, target)
        return
    settings, base = config.train, storage.fetch(source)
    if settings.kind is RewardKind.explicit:
        explicit.build(base, target, settings.representation, config.model.action_format, settings.template)
        said = {"at": [end.value for end in settings.labels.at], "of": settings.labels.of.value}
        described = model_directory.settings(target) | {model_directory.VALUES: said | {"loss": settings.loss.value}}
        model_directory.write_settings(target, described)
        settle_overflow(target, settings.overflow, config.model.context)
        if settings.lora.keep:
            adapters.check_base(target, base)
    else:
        implicit.copy(base, target)
    settle_use(target, config.model)


def _texts(store: TreeStore) -> Iterator[str]:
    """What is said in all trees, for a tokenizer from scratch."""
    for tree in store.trees():
        for node in tree.nodes:
            yield from map(text_of, (node.proposal.message(), *node.messages()))


def _verify(
    config: Config, output: Path, trees: Sequence[Tree], testing: StateSamples, values: Sequence[float]
) -> float:
    """Compare the export with the trained weights on states and actions that are spread over the held-out ones."""
    chosen = range(0, len(values), max(1, len(values) // _VERIFIED_STATES))
    expected = [values[i] for i in chosen]
    if config.train.kind is not RewardKind.explicit:
        owners = [testing.owners[i] for i in chosen]
        states = [trees[owner.tree].state(owner.node) for owner in owners]
        return implicit.verify(output, config.model.context, states, expected)
    return explicit.verify(output, [testing.sequences.beginning(i) for i in chosen], expected)


if __name__ == "__main__":
    main(run)

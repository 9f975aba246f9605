"""How well any reward model orders the states of a run's held-out trees: another run's, an imported one, an ensemble.

    agentrm evaluate --reward-models MODEL --trees RUN

The model scores on `reward_engine` in this process, as a replica of the service does; no cluster is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from agentrm import model_directory, storage
from agentrm.config.loading import changed
from agentrm.config.schema import Config, End, Loss
from agentrm.core.errors import ContextOverflow, UserError
from agentrm.core.tree import Tree
from agentrm.data.states import held_out
from agentrm.data.trees import TreeStore
from agentrm.evaluation import calibration
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import quality
from agentrm.models.scorers import Per, Scorer, open_scorer
from agentrm.run import RunDirectory, reward_model
from jobs.terminal.progress import Bar, progress

_TREES_AT_ONCE = 16


def run(model: storage.Location, trees: storage.Location, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of `quality` of a reward model's directory, or a run's, on the trees of the run `trees` that neither
    run learns from; `overrides` change the configuration of `trees`.

    All kinds are unseen by a model that is no run's. Raises UserError without such trees and for a model that values no
    states, ModelError for a directory that holds no reward model.
    """
    directory = RunDirectory.existing(trees)
    config = changed(directory.config, overrides) if overrides else directory.config
    store = TreeStore(directory.require("trees", "trees"))
    learned, fraction = set[str](), config.train.held_out_trees
    model, trained = reward_model(model)
    if trained is not None:
        learned = set(trained.metrics("train").get("trees_learned", ()))
        # Of two fractions the smaller one's trees are among the other's.
        fraction = min(fraction, trained.config.train.held_out_trees)
    kept = [tree for tree in store.trees() if held_out(tree.task, fraction)]
    if not kept:
        raise UserError(
            f"all trees of {trees} are learned from: raise train.held_out_trees, or grow some of split valid"
        )
    path = storage.fetch(model)
    said = model_directory.settings(path).get(model_directory.VALUES, {})
    if End.state.value not in said.get("at", [End.state.value]):
        raise UserError(f"{model} learned values of actions alone, and what is measured are states: train it at both")
    values = values_of(kept, path, config, End.state)
    fitted = calibration.read(path).get(End.state)
    chances = None if fitted is None else [_each(fitted, found) for found in values]
    estimates = {
        Loss.cross_entropy.value: [_each(calibration.sigmoid, found) for found in values],
        Loss.bradley_terry.value: chances,
    }
    return quality(
        kept,
        values,
        Settings.of(config),
        learned,
        likelihood=config.evaluate.likelihood,
        estimates=estimates.get(said.get("loss")),
        chances=chances,
    )


def _each(scale: Callable[[np.ndarray], np.ndarray], values: dict[int, float]) -> dict[int, float]:
    return dict(zip(values, scale(np.array([*values.values()], float)).tolist(), strict=True))


def values_of(trees: Sequence[Tree], model: Path, config: Config, end: End) -> list[dict[int, float]]:
    """What the reward model in a directory says of trees at one of the ends of turns, by node: of states in which
    somebody has answered, or of the actions that led to nodes. What exceeds its context has none. Raises ModelError.
    """
    read = _of_states if end is End.state else _of_actions

    async def values(scorer: Scorer, bar: Bar) -> list[dict[int, float]]:
        lanes = asyncio.Semaphore(_TREES_AT_ONCE)

        async def one(tree: Tree) -> dict[int, float]:
            async with lanes:
                found = await read(tree, scorer)
            bar.advance()
            return found

        return list(await asyncio.gather(*map(one, trees)))

    with (
        closing(open_scorer(model, config.reward_engine, config.model.context)) as scorer,
        progress("trees", len(trees), lanes=_TREES_AT_ONCE) as bar,
    ):
        return asyncio.run(values(scorer, bar))


async def _of_states(tree: Tree, scorer: Scorer) -> dict[int, float]:
    scored = await asyncio.gather(*(_path_values(tree, tree.path(leaf), scorer) for leaf in tree.leaves()))
    return {index: value for found in scored for index, value in found.items()}


async def _path_values(tree: Tree, path: list[int], scorer: Scorer) -> dict[int, float]:
    """The values of the states on a path from the root, as far as they fit into the model's context."""
    while path:
        try:
            (score,) = await scorer.read([tree.state(path[-1]).conversation()], Per.step)
            answered = [index for index in path if tree.nodes[index].answered]
            return dict(zip(answered, score.values, strict=True))
        except ContextOverflow:
            path = path[:-1]
    return {}


async def _of_actions(tree: Tree, scorer: Scorer) -> dict[int, float]:
    taken = range(1, len(tree.nodes))
    scores = await scorer.rank([tree.taken(index).conversation() for index in taken])
    return {index: score for index, score in zip(taken, scores, strict=True) if score > -inf}

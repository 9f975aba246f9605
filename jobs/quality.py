"""How well any reward model orders the states of a run's held-out trees: another run's, an imported one, an ensemble.

    agentrm evaluate --reward-models MODEL --trees RUN

The model scores on `reward_engine` in this process, as a replica of the service does; no cluster is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from math import inf
from typing import Any, Protocol

import numpy as np

from agentrm import model_directory, storage
from agentrm.config.loading import changed
from agentrm.config.schema import End, Loss
from agentrm.core.errors import ContextOverflow, UserError
from agentrm.core.messages import Conversation
from agentrm.core.tree import Tree
from agentrm.data.states import held_out
from agentrm.data.trees import TreeStore
from agentrm.evaluation import calibration
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import quality
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per, open_scorer
from agentrm.run import RunDirectory, reward_model
from jobs.terminal.progress import progress

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
    with closing(open_scorer(path, config.reward_engine, config.model.context)) as scorer:
        (values,) = asyncio.run(values_of(kept, scorer, [End.state]))
    fitted = calibration.read(path).get(End.state)
    chances = None if fitted is None else [_each(fitted, by_node) for by_node in values]
    estimates = {
        Loss.cross_entropy.value: [_each(calibration.sigmoid, by_node) for by_node in values],
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


class Values(Protocol):
    """What gives the values of trees: a `Scorer`, or replicas of one."""

    async def read(self, inputs: list[Input], per: Per) -> Sequence[Reading]:
        """See `Scorer`."""
        ...

    async def rank(self, conversations: list[Conversation]) -> list[float]:
        """See `Scorer`."""
        ...


async def values_of(trees: Sequence[Tree], scorer: Values, ends: Sequence[End]) -> list[list[dict[int, float]]]:
    """What a reward model says of trees at some ends of turns, for each by node: of states in which somebody has
    answered, or of the actions that led to nodes. What exceeds its context has no value. Raises ModelError.
    """
    lanes = asyncio.Semaphore(_TREES_AT_ONCE)
    reads = {End.state: _of_states, End.action: _of_actions}

    async def one(tree: Tree, end: End) -> dict[int, float]:
        async with lanes:
            values = await reads[end](tree, scorer)
        bar.advance()
        return values

    with progress("trees", len(trees) * len(ends), lanes=_TREES_AT_ONCE) as bar:
        return [list(await asyncio.gather(*(one(tree, end) for tree in trees))) for end in ends]


async def _of_states(tree: Tree, scorer: Values) -> dict[int, float]:
    scored = await asyncio.gather(*(_path_values(tree, tree.path(leaf), scorer) for leaf in tree.leaves()))
    return {index: value for path_values in scored for index, value in path_values.items()}


async def _path_values(tree: Tree, path: list[int], scorer: Values) -> dict[int, float]:
    """The values of the states on a path from the root, as far as they fit into the model's context."""
    while path:
        try:
            (score,) = await scorer.read([tree.state(path[-1]).conversation()], Per.step)
            answered = [index for index in path if tree.nodes[index].answered]
            return dict(zip(answered, score.values, strict=True))
        except ContextOverflow:
            path = path[:-1]
    return {}


async def _of_actions(tree: Tree, scorer: Values) -> dict[int, float]:
    taken = range(1, len(tree.nodes))
    scores = await scorer.rank([tree.taken(index).conversation() for index in taken])
    return {index: score for index, score in zip(taken, scores, strict=True) if score > -inf}

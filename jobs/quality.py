"""How well any reward model orders the states of a run's held-out trees: another run's, an imported one, an ensemble.

    agentrm evaluate --reward-models MODEL --trees RUN

The model scores on `reward_engine` in this process, as a replica of the service does; no cluster is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from agentrm import storage
from agentrm.config.loading import changed
from agentrm.config.tasks import learned_kinds
from agentrm.core.errors import ContextOverflow, UserError
from agentrm.core.tree import Tree
from agentrm.data.states import held_out
from agentrm.data.trees import TreeStore
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import quality
from agentrm.models.scorers import Per, Scorer, open_scorer
from agentrm.run import RunDirectory
from jobs.terminal.progress import Bar, progress

_TREES_AT_ONCE = 16


def run(model: storage.Location, trees: storage.Location, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of `quality` of a reward model's directory, or a run's, on the trees of the run `trees` that neither
    run learns from; `overrides` change the configuration of `trees`.

    All kinds are unseen by a model that is no run's. Raises UserError without such trees, ModelError for a directory
    that holds no reward model.
    """
    directory = RunDirectory.existing(trees)
    config = changed(directory.config, overrides) if overrides else directory.config
    store = TreeStore(directory.require("trees", "trees"))
    learned, fraction = set[str](), config.train.held_out_trees
    if "config.yaml" in storage.names(model):
        trained = RunDirectory.existing(model)
        learned, model = learned_kinds(trained.config), trained.require("reward_model", "train")
        # Of two fractions the smaller one's trees are among the other's.
        fraction = min(fraction, trained.config.train.held_out_trees)
    kept = [tree for tree in store.trees() if held_out(tree.task, fraction)]
    if not kept:
        raise UserError(
            f"all trees of {trees} are learned from: raise train.held_out_trees, or grow some of split valid"
        )
    with (
        closing(open_scorer(storage.fetch(model), config.reward_engine, config.model.context)) as scorer,
        progress("trees", len(kept), lanes=_TREES_AT_ONCE) as bar,
    ):
        values = asyncio.run(_values(kept, scorer, bar))
    return quality(kept, values, Settings.of(config), learned, likelihood=config.evaluate.likelihood)


async def _values(trees: Sequence[Tree], scorer: Scorer, bar: Bar) -> list[dict[int, float]]:
    lanes = asyncio.Semaphore(_TREES_AT_ONCE)

    async def one(tree: Tree) -> dict[int, float]:
        async with lanes:
            scored = await asyncio.gather(*(_path_values(tree, tree.path(leaf), scorer) for leaf in tree.leaves()))
        bar.advance()
        return {index: value for found in scored for index, value in found.items()}

    return list(await asyncio.gather(*map(one, trees)))


async def _path_values(tree: Tree, path: list[int], scorer: Scorer) -> dict[int, float]:
    """The values of the states on a path from the root, as far as they fit into the model's context."""
    while path:
        try:
            (score,) = await scorer.score([tree.state(path[-1]).conversation()], Per.step)
            return dict(zip(path, score.values, strict=True))
        except ContextOverflow:
            path = path[:-1]
    return {}

"""What a dataset of trees holds, per environment and split: counts, shape, values, duplicates, and errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agentrm.data.trees import TreeStore

BINS = 10
_COLUMNS = (
    "environment",
    "split",
    "node",
    "parent",
    "depth",
    "visits",
    "value",
    "outcome",
    "estimate",
    "merged",
    "malformed",
    "removed",
    "iterations",
    "ended_by",
    "policy_tokens",
    "environment_steps",
    "environment_errors",
    "engine_errors",
)


@dataclass(slots=True)
class Statistics:
    """Sums over the trees of one environment and split.

    `states`: nodes with a value, the roots included. Those that a reward model learns from are `labels`; `visits`: the
    returns that their values are means of, and `revisited` the labels with more than one. `rollouts`: returns backed up
    to the roots.
    `branching[d]` counts nodes of depth d with more than one child: what selection has reached and expanded, for a
    rollout leaves one action at a node (several only where a child is rolled out more than once); `deepest` sums over
    trees the largest such depth, and `deep` counts the trees that branch below their root.

    `episodes`: rollouts that ended in a grade; `estimates`: rollouts that the reward model's value cut. `duplicates`:
    sampled turns that were merged into another one's node. `malformed`: nodes whose turn held no action; `cleaned`:
    those from whose turn something was removed to read it. `values[b]` counts states with V from b / 10 to
    (b + 1) / 10, the last one with 1. `root_values`, `policy_tokens`, `environment_steps`, `environment_errors` and
    `engine_errors` are summed over trees.
    """

    trees: int = 0
    states: int = 0
    labels: int = 0
    visits: int = 0
    revisited: int = 0
    rollouts: int = 0
    deep: int = 0
    deepest: int = 0
    episodes: int = 0
    estimates: int = 0
    iterations: int = 0
    duplicates: int = 0
    malformed: int = 0
    cleaned: int = 0
    policy_tokens: int = 0
    environment_steps: int = 0
    environment_errors: int = 0
    engine_errors: int = 0
    root_values: float = 0.0
    values: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    branching: Counter[int] = field(default_factory=Counter)
    ended_by: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table, min_visits: int) -> None:
        """Count the rows of one tree, see `train.labels.min_visits`."""
        root = {name: table[name][0].as_py() for name in _COLUMNS}
        visits, depth = table["visits"].to_numpy(), table["depth"].to_numpy()
        visited = visits > 0
        values = table["value"].to_numpy()[visited]
        self.trees += 1
        labelled = visits[visited & ((visits >= min_visits) | table["outcome"].is_valid().to_numpy())]
        self.states += len(values)
        self.labels += len(labelled)
        self.visits += int(labelled.sum())
        self.revisited += int((labelled > 1).sum())
        self.rollouts += root["visits"]
        several = np.flatnonzero(np.bincount(table["parent"].to_numpy()[1:], minlength=len(table)) > 1)
        self.branching.update(depth[several].tolist())
        deepest = int(depth[several].max()) if len(several) else 0
        self.deepest += deepest
        self.deep += deepest > 0
        self.episodes += len(table) - table["outcome"].null_count
        self.estimates += len(table) - table["estimate"].null_count
        self.duplicates += int(table["merged"].to_numpy()[1:].sum()) - (len(table) - 1)
        self.malformed += int(table["malformed"].to_numpy()[1:].sum())
        self.cleaned += int(pc.sum(pc.not_equal(table["removed"], "")).as_py() or 0)
        self.root_values += root["value"]
        self.values += np.histogram(values, BINS, (0.0, 1.0))[0]
        self.ended_by[root["ended_by"]] += 1
        for name in ("iterations", "policy_tokens", "environment_steps", "environment_errors", "engine_errors"):
            setattr(self, name, getattr(self, name) + root[name])


def statistics(store: TreeStore, min_visits: int = 1) -> dict[str, Statistics]:
    """By "environment, split", in the order of their names; labels have so many visits, or are the ends of episodes.
    Raises UserError as `TreeStore.trees` does.
    """
    totals: dict[str, Statistics] = {}
    for table in store.tables(_COLUMNS):
        totals.setdefault(f"{table['environment'][0]}, {table['split'][0]}", Statistics()).add(table, min_visits)
    return dict(sorted(totals.items()))

"""What the fit of a reward model refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.models.initial import prepare
from agentrm.run import RunDirectory
from jobs import train


def grown(split: str, kind: str, visits: int) -> Tree:
    nodes = [Node(-1, 0, "start", visits=visits, value=0.5), Node(0, 1, "end", "go", text="go", visits=visits)]
    return Tree(Task("maze", kind, split, 0), nodes)


@pytest.mark.parametrize(
    ("overrides", "trees", "told"),
    [
        (["train.labels.min_visits=3"], [grown("train", "loops_tiny", 2)], r"train\.labels leaves no state"),
        ([], [grown("valid", "loops_tiny", 8)], r"grow more trees of the split train"),
        ([], [grown("train", "loops_tiny", 2)], "keeps 0 trees"),
        (
            ["train.loss=bradley_terry"],
            [grown("train", "loops_tiny", 2)],
            "finds no pair whose values differ: of siblings",
        ),
        (
            ["train.labels.environments=[imported.web]"],
            [grown("train", "loops_tiny", 2)],
            "holds imported.web, of which",
        ),
        (
            [],
            [grown("train", "loops_tiny", 2), grown("valid", "perfect_small", 8)],
            "add such tasks of the split valid",
        ),
    ],
)
def test_trees_that_are_not_enough_are_refused(
    tmp_path: Path, overrides: list[str], trees: list[Tree], told: str
) -> None:
    config = load("quickstart", [f"run={tmp_path / 'run'}", *overrides])
    directory = RunDirectory.open(config)
    with directory.writing("policy") as policy:
        prepare(config.model, ["start end go"], 0, policy)
    store = TreeStore(directory.at("trees"))
    for tree in trees:
        store.write(tree)
    with pytest.raises(UserError, match=told):
        train.run(config)

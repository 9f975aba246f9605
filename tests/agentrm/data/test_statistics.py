"""Statistics of a dataset, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.statistics import statistics
from agentrm.data.trees import TreeStore


def test_sums_by_hand(tmp_path: Path) -> None:
    store = TreeStore(tmp_path)
    nodes = [
        Node(-1, 0, "", visits=3, value=0.5),
        Node(0, 1, "", visits=2, value=0.75, merged=3),
        Node(1, 2, "", visits=1, value=1.0, outcome=1.0, merged=2, malformed=True, removed="**"),
        Node(0, 1, "", visits=1, value=0.0, estimate=0.0),
    ]
    task = Task("maze", "perfect_small", "train", 0)
    store.write(Tree(task, nodes, 0, 2, "iterations", 40, 9, 1, 0))
    store.write(Tree(Task("maze", "perfect_small", "train", 1), nodes[:1], 0, 1, "tokens", 10, 1, 0, 2))
    store.write(Tree(Task("babyai", "goto_obj", "train", 1), [Node(-1, 0, "")], ended_by="seconds"))
    found = statistics(store)
    assert list(found) == ["babyai", "maze"]
    maze = found["maze"]
    assert (maze.trees, maze.states, maze.episodes, maze.estimates) == (2, 5, 1, 1)
    assert (maze.duplicates, maze.malformed, maze.cleaned) == (3, 1, 1)
    assert (maze.iterations, maze.policy_tokens, maze.environment_steps) == (3, 50, 10)
    assert (maze.environment_errors, maze.engine_errors) == (1, 2)
    assert maze.root_values == pytest.approx(1.0)
    assert maze.values.tolist() == [1, 0, 0, 0, 0, 2, 0, 1, 0, 1]
    assert maze.ended_by == {"iterations": 1, "tokens": 1}
    assert (found["babyai"].trees, found["babyai"].states) == (1, 0)


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    assert statistics(TreeStore(tmp_path / "none")) == {}

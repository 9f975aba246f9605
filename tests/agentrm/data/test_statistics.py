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
    assert list(found) == ["babyai, train", "maze, train"]
    maze = found["maze, train"]
    assert (maze.trees, maze.states, maze.episodes, maze.estimates) == (2, 5, 1, 1)
    assert (maze.duplicates, maze.malformed, maze.cleaned) == (3, 1, 1)
    assert (maze.iterations, maze.policy_tokens, maze.environment_steps) == (3, 50, 10)
    assert (maze.environment_errors, maze.engine_errors) == (1, 2)
    assert maze.root_values == pytest.approx(1.0)
    assert maze.values.tolist() == [1, 0, 0, 0, 0, 2, 0, 1, 0, 1]
    assert maze.ended_by == {"iterations": 1, "tokens": 1}
    assert (found["babyai, train"].trees, found["babyai, train"].states) == (1, 0)
    assert not found["babyai, train"].branching
    assert (maze.labels, maze.visits, maze.revisited) == (5, 10, 3)
    several = statistics(store, min_visits=2)["maze, train"]
    assert (several.states, several.labels, several.visits, several.revisited) == (5, 4, 9, 3)


def test_shape_by_hand(tmp_path: Path) -> None:
    store = TreeStore(tmp_path)
    parents = [-1, 0, 0, 1, 1, 3, 5]
    visits = [4, 3, 1, 2, 1, 2, 1]
    depths = [0, 1, 1, 2, 2, 3, 4]
    nodes = [Node(*each, "", visits=count) for *each, count in zip(parents, depths, visits, strict=True)]
    path = [Node(-1, 0, "", visits=1), Node(0, 1, "", visits=1)]
    for split, index in (("train", 0), ("valid", 0)):
        store.write(Tree(Task("maze", "perfect_small", split, index), nodes))
    store.write(Tree(Task("maze", "perfect_small", "train", 1), path))
    found = statistics(store)
    assert list(found) == ["maze, train", "maze, valid"]
    train = found["maze, train"]
    assert (train.rollouts, train.visits, train.revisited) == (5, 14 + 2, 4)
    assert train.branching == {0: 1, 1: 1}
    assert (train.deep, train.deepest) == (1, 1)
    assert (found["maze, valid"].rollouts, found["maze, valid"].deep) == (4, 1)


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    assert statistics(TreeStore(tmp_path / "none")) == {}

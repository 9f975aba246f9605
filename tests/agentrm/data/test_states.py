"""Trees to labelled sequences, checked against a tree that is small enough to label by hand."""

from __future__ import annotations

import pytest

from agentrm.config.schema import Model, Scratch
from agentrm.data.states import held_out, samples
from agentrm.environments.base import Task
from agentrm.models.initial import prepare
from agentrm.models.rendering import Renderer
from agentrm.search.tree import Node, Tree

TASK = Task("toy", "kind", "train", 0)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    directory = tmp_path_factory.mktemp("base")
    scratch = Scratch(vocabulary=300, hidden=64, layers=1, heads=2)
    prepare(Model(source="scratch", scratch=scratch), ["see a room"] * 9, 0, directory)
    return Renderer.from_pretrained(directory, 200)


def node(parent: int, depth: int, name: str, value: float) -> Node:
    return Node(parent, depth, observation=f"see {name}", action=name, text=name, visits=1, value=value)


def tree() -> Tree:
    """root(0.5) -> a(0.75) -> {c(1.0), d(0.25)}; root -> b(0.0)."""
    return Tree(
        TASK,
        [
            node(-1, 0, "", 0.5),
            node(0, 1, "a", 0.75),
            node(0, 1, "b", 0.0),
            node(1, 2, "c", 1.0),
            node(1, 2, "d", 0.25),
        ],
    )


def test_every_state_is_labelled_once_at_its_last_token(renderer: Renderer) -> None:
    made = samples([tree()], renderer)
    sequences = made.sequences
    # The leaves are b, c and d in the order of their indices.
    assert made.owners == [(0, 0), (0, 2), (0, 1), (0, 3), (0, 4)]
    assert sequences.labels.tolist() == [0.5, 0.0, 0.75, 1.0, 0.25]
    assert sequences.label_counts.tolist() == [2, 2, 1]
    assert made.overflows == 0
    label = 0
    for row, count in enumerate(sequences.label_counts):
        ids = sequences.ids[sequences.starts[row] : sequences.starts[row + 1]].tolist()
        for _ in range(count):
            prefix = ids[: sequences.positions[label] + 1]
            assert prefix == renderer.ids(tree().state(made.owners[label][1]).messages())
            label += 1


def test_trees_are_numbered_in_the_order_given(renderer: Renderer) -> None:
    made = samples([tree(), tree()], renderer)
    assert [number for number, _ in made.owners] == [0] * 5 + [1] * 5


def test_a_state_beyond_the_context_is_counted_and_its_ancestors_stay(renderer: Renderer) -> None:
    long = tree()
    long.nodes[3].observation = "see " + "x" * 300
    made = samples([long], renderer)
    assert sorted(index for _, index in made.owners) == [0, 1, 2, 4]
    assert made.overflows == 1


def test_the_split_is_stable_and_near_its_fraction() -> None:
    tasks = [Task("toy", "kind", "train", index) for index in range(2000)]
    kept = [task for task in tasks if held_out(task, 0.2)]
    assert 340 < len(kept) < 460
    assert kept == [task for task in tasks if held_out(task, 0.2)]
    assert all(held_out(task, 0.4) for task in kept)
    assert not any(held_out(task, 0.0) for task in tasks)

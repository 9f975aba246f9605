"""Trees to labelled sequences, checked against a tree that is small enough to label by hand."""

from __future__ import annotations

from typing import Any

import pytest

from agentrm.config.schema import Labels, Model, Scratch
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.states import held_out, learned, samples
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer

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
            assert prefix == renderer.ids(tree().state(made.owners[label][1]).conversation().messages)
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
    assert held_out(Task("toy", "kind", "valid", 0), 0.0) and held_out(Task("toy", "kind", "test", 0), 0.0)


def test_shares_lie_within_each_other_and_beside_the_held_out() -> None:
    tasks = [Task("toy", "kind", "train", index) for index in range(2000)]
    half, quarter = ([task for task in tasks if learned(task, Labels(share=share))] for share in (0.5, 0.25))
    assert 900 < len(half) < 1100 and 430 < len(quarter) < 570 and set(quarter) < set(half)
    assert 70 < sum(held_out(task, 0.2) for task in half[:500]) < 130
    assert all(learned(task, Labels()) for task in tasks)


def test_trees_of_named_environments_and_kinds() -> None:
    tasks = [Task("toy", "hard", "train", 0), Task("toy", "easy", "train", 0), Task("other", "easy", "train", 0)]
    assert [learned(task, Labels(environments=["toy.easy"])) for task in tasks] == [False, True, False]
    assert [learned(task, Labels(environments=["toy.easy", "other"])) for task in tasks] == [False, True, True]


def labelled(renderer: Renderer, trees: list[Tree], **options: Any) -> tuple[list[tuple[int, int]], list[float], Any]:
    made = samples(trees, renderer, Labels(**options))
    weights = made.sequences.weights
    return made.owners, made.sequences.labels.tolist(), None if weights is None else weights.tolist()


def test_states_with_few_visits_can_be_left_out(renderer: Renderer) -> None:
    grown = tree()
    grown.nodes[0].visits, grown.nodes[1].visits = 3, 2
    assert labelled(renderer, [grown], min_visits=2) == ([(0, 0), (0, 1)], [0.5, 0.75], None)
    assert labelled(renderer, [grown], min_visits=4) == ([], [], None)


def test_each_environment_weighs_the_same(renderer: Renderer) -> None:
    other = Tree(Task("other", "kind", "train", 0), [node(-1, 0, "", 0.5)])
    # Five states against one: 1/5 each and 1, with mean 1/3.
    weights = labelled(renderer, [tree(), other], balance=True)[2]
    assert weights == pytest.approx([0.6] * 5 + [3.0])

"""Trees to labelled sequences, checked against a tree that is small enough to label by hand."""

from __future__ import annotations

from typing import Any

import pytest

from agentrm.config.schema import End, Labels, Loss, Model, Scratch, Target
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.states import Owner, StateSamples, held_out, learned, samples
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
    assert made.owners == [Owner(0, 0), Owner(0, 2), Owner(0, 1), Owner(0, 3), Owner(0, 4)]
    assert sequences.labels.tolist() == [0.5, 0.0, 0.75, 1.0, 0.25]
    assert sequences.label_counts.tolist() == [2, 2, 1]
    assert made.overflows == 0
    label = 0
    for row, count in enumerate(sequences.label_counts):
        ids = sequences.ids[sequences.starts[row] : sequences.starts[row + 1]].tolist()
        for _ in range(count):
            prefix = ids[: sequences.positions[label] + 1]
            assert prefix == renderer.ids(tree().state(made.owners[label].node).conversation())
            label += 1


def test_trees_are_numbered_in_the_order_given(renderer: Renderer) -> None:
    made = samples([tree(), tree()], renderer)
    assert [owner.tree for owner in made.owners] == [0] * 5 + [1] * 5


def test_a_state_beyond_the_context_is_counted_and_its_ancestors_stay(renderer: Renderer) -> None:
    long = tree()
    long.nodes[3].observation = "see " + "x" * 300
    made = samples([long], renderer)
    assert sorted(owner.node for owner in made.owners) == [0, 1, 2, 4]
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
    return (
        [owner[:2] for owner in made.owners],
        made.sequences.labels.tolist(),
        None if weights is None else weights.tolist(),
    )


def test_states_with_few_visits_can_be_left_out(renderer: Renderer) -> None:
    grown = tree()
    grown.nodes[0].visits, grown.nodes[1].visits = 3, 2
    assert labelled(renderer, [grown], min_visits=2) == ([(0, 0), (0, 1)], [0.5, 0.75], None)
    assert labelled(renderer, [grown], min_visits=4) == ([], [], None)
    # The end of an episode is known from one visit.
    grown.nodes[3].outcome = 1.0
    assert labelled(renderer, [grown], min_visits=4)[:2] == ([(0, 3)], [1.0])


def test_each_environment_weighs_the_same(renderer: Renderer) -> None:
    other = Tree(Task("other", "kind", "train", 0), [node(-1, 0, "", 0.5)])
    # Five states against one: 1/5 each and 1, with mean 1/3.
    weights = labelled(renderer, [tree(), other], balance=True)[2]
    assert weights == pytest.approx([0.6] * 5 + [3.0])


def test_weights_of_named_sources_are_their_part_of_the_loss(renderer: Renderer) -> None:
    other = Tree(Task("imported", "web", "train", 0), [node(-1, 0, "", 0.5)])
    # Five states share 3, one has 1: 0.6 each and 1, with mean 4 / 6.
    named = {"environments": ["toy", "imported.web"], "weights": [3.0, 1.0]}
    assert labelled(renderer, [tree(), other], **named)[2] == pytest.approx([0.9] * 5 + [1.5])
    assert labelled(renderer, [tree()], environments=["toy"], weights=[3.0])[2] is None


def judged() -> Tree:
    """The tree with outcomes at its ends, and what was said of single turns."""
    grown = tree()
    for index, outcome in ((2, 0.0), (3, 1.0), (4, 0.25)):
        grown.nodes[index].outcome = outcome
    for index, label in ((1, 1), (2, -1), (3, 0)):
        grown.nodes[index].label = label
    return grown


def test_an_action_is_labelled_at_its_last_token_with_the_value_of_what_it_led_to(renderer: Renderer) -> None:
    both = samples([tree()], renderer, Labels(at=[End.state, End.action]))
    assert both.owners[:3] == [Owner(0, 0), Owner(0, 2, End.action), Owner(0, 2)]
    assert both.sequences.labels[:3].tolist() == [0.5, 0.0, 0.0]
    actions = samples([tree()], renderer, Labels(at=[End.action]))
    assert actions.owners == [Owner(0, index, End.action) for index in (2, 1, 3, 4)], "the root is no action's"
    assert actions.sequences.labels.tolist() == [0.0, 0.75, 1.0, 0.25]
    for made in (both, actions):
        for label, (_, index, at) in enumerate(made.owners):
            messages = tree().state(index).conversation().messages
            assert made.sequences.beginning(label) == renderer.ids(messages if at is End.state else messages[:-1])
    # One forward pass still: a sequence per path, whatever is labelled.
    assert len(both.sequences) == len(actions.sequences) == len(samples([tree()], renderer).sequences) == 3


def test_outcomes_label_the_ends_of_episodes_alone(renderer: Renderer) -> None:
    made = samples([judged()], renderer, Labels(of=Target.outcomes))
    assert made.owners == [Owner(0, 2), Owner(0, 3), Owner(0, 4)]
    assert made.sequences.labels.tolist() == [0.0, 1.0, 0.25]
    told = judged()
    told.nodes[2].progress = 0.5
    # The environment does not tell the progress of the others.
    made = samples([told], renderer, Labels(of=Target.progress), implicit=True)
    assert made.owners == [Owner(0, 2), Owner(0, 3), Owner(0, 4)]
    assert made.sequences.labels.tolist() == [0.5, 1.0, 0.25]
    assert made.sequences.reference is not None and made.sequences.reference.dtype == "float32"


def test_labels_of_steps_are_between_nought_and_one(renderer: Renderer) -> None:
    made = samples([judged()], renderer, Labels(of=Target.steps, at=[End.action]), loss=Loss.cross_entropy)
    assert [(owner.node, label) for owner, label in zip(made.owners, made.sequences.labels, strict=True)] == [
        (2, 0.0),
        (1, 1.0),
        (3, 0.5),
    ]


def compared(made: StateSamples) -> list[tuple[Owner, Owner]]:
    """The pairs, better and worse."""
    assert made.sequences.pairs is not None
    return [(made.owners[better], made.owners[worse]) for better, worse in made.sequences.pairs]


def test_pairs_are_siblings(renderer: Renderer) -> None:
    made = samples([tree()], renderer, Labels(at=[End.state, End.action]), loss=Loss.bradley_terry, budget=1000)
    one, two = (Owner(0, 1), Owner(0, 2)), (Owner(0, 3), Owner(0, 4))
    expected = {
        pair
        for at in End
        for pair in ((one[0]._replace(at=at), one[1]._replace(at=at)), (two[0]._replace(at=at), two[1]._replace(at=at)))
    }
    assert set(compared(made)) == expected
    assert made.sequences.units.tolist() == [0, 0, 0] and made.apart == 0
    assert Owner(0, 0) not in made.owners, "the root has no siblings"
    # Two of the three paths at a time: the first pair takes them, the other has no room.
    less = samples([tree()], renderer, loss=Loss.bradley_terry, budget=1)
    assert less.apart == 1 and compared(less) == [one]
    assert len(less.sequences) == 2 and less.sequences.units.tolist() == [0, 0]


def test_pairs_of_outcomes_are_the_ends_of_one_tasks_trees(renderer: Renderer) -> None:
    again, other = judged(), judged()
    again.number, other.task = 1, Task("toy", "kind", "train", 1)
    for each, outcome in ((again, 1.0), (other, 0.0)):
        del each.nodes[1:]
        each.nodes.append(node(0, 1, "e", outcome))
        each.nodes[1].outcome = outcome
    made = samples([judged(), again, other], renderer, Labels(of=Target.outcomes), loss=Loss.bradley_terry, budget=1000)
    a, b, c, e = Owner(0, 2), Owner(0, 3), Owner(0, 4), Owner(1, 1)
    assert set(compared(made)) == {(b, a), (b, c), (c, a), (e, a), (e, c)}
    assert made.sequences.units.tolist() == [0, 0, 0, 0]


def test_cross_entropy_takes_probabilities_alone(renderer: Renderer) -> None:
    wrong = tree()
    wrong.nodes[3].value = 1.5
    with pytest.raises(UserError, match=r"between 0 and 1, and the tree toy\.kind\.train\.0\.0 has 1\.5"):
        samples([wrong], renderer, loss=Loss.cross_entropy)
    assert samples([wrong], renderer).sequences.labels.max() == 1.5

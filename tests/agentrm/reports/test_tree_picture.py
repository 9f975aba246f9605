"""The picture of one tree: which one is shown, which of its nodes, and that it says what they hold."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from agentrm.config.loading import load
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.reports.tree_picture import drawn, drawn_tree, shown_tree
from agentrm.run import RunDirectory


def tree(index: int, *nodes: tuple[int, int, float], split: str = "train") -> Tree:
    """A tree of (parent, visits, value), the root first; its actions are named by their numbers."""
    made: list[Node] = []
    for number, (parent, visits, value) in enumerate(nodes):
        depth = made[parent].depth + 1 if made else 0
        made.append(Node(parent, depth, "", f"action <{number}>" if made else "", visits=visits, value=value))
        if depth:
            made[parent].children.append(number)
    return Tree(Task("maze", "perfect_small", split, index), made)


DEEP = ((-1, 5, 0.6), (0, 4, 0.75), (0, 1, 0.0), (1, 2, 1.0), (1, 1, 0.5), (3, 1, 1.0), (2, 1, 0.0))


def test_the_tree_in_which_selection_went_deepest_is_shown(tmp_path: Path) -> None:
    directory = RunDirectory.open(load("quickstart", [f"run={tmp_path / 'run'}"]))
    assert shown_tree(directory) is None
    store = TreeStore(directory.at("trees"))
    for each in (
        tree(0, (-1, 3, 0.5), (0, 2, 1.0), (0, 1, 0.0)),
        tree(1, *DEEP),
        # As deep, with nothing to tell apart; and deeper, but not learned from.
        tree(2, *((parent, visits, 0.5) for parent, visits, _ in DEEP)),
        tree(3, *DEEP, (3, 1, 0.0), split="valid"),
    ):
        store.write(each)
    shown = shown_tree(directory)
    assert shown is not None and shown.task.index == 1


def test_single_rollouts_are_cut_behind_their_first_action() -> None:
    # 5 is below a node of two visits; 6 goes on below one that a single rollout went through.
    assert drawn(tree(0, *DEEP)) == [0, 1, 2, 3, 4, 5]


def test_a_large_tree_is_cut_to_what_was_visited_most() -> None:
    wide = [(-1, 60, 0.5), *((0, 2, 0.5) for _ in range(30)), *((1 + number, 1, 0.5) for number in range(30))]
    wide[7] = (0, 9, 0.5)
    kept = drawn(tree(0, *wide))
    # The root's children are all of one node, then the children of one after another, most visited first.
    assert kept[:31] == list(range(31)) and 31 + 6 in kept and len(kept) == 40


def test_the_picture_holds_actions_values_and_visits() -> None:
    figure = ElementTree.fromstring(drawn_tree(tree(0, *DEEP)))
    texts = [element.text for element in figure.iter("{http://www.w3.org/2000/svg}text")]
    assert {"0.60 (5)", "action <1>  0.75 (4)", "action <5>  1.00 (1)"} <= set(texts) and len(texts) == 6

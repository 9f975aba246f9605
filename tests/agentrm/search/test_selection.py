"""Selection on a bandit of three arms whose every score is computed by hand, and when a node is widened."""

from __future__ import annotations

from math import e, log, sqrt

import pytest

from agentrm.config.schema import Selection, Trees
from agentrm.core.tree import Node, Tree
from agentrm.search.selection import prior, puct, select, ucb, width
from tests.agentrm.search.toy import TASK


def bandit() -> Tree:
    """Arms of (N, V): (4, 0.5), (2, 0.75), (1, 0.0); the policy gives them 1/2, 1/4 and 1/4."""
    tree = Tree(TASK, [Node(-1, 0, "", visits=7, value=0.5, children=[1, 2, 3], expanded=True, sealed=True)])
    for visits, value, probability in ((4, 0.5, 0.5), (2, 0.75, 0.25), (1, 0.0, 0.25)):
        tree.nodes.append(Node(0, 1, "", visits=visits, value=value, logprob=log(probability) - 40))
    return tree


def test_ucb_by_hand():
    # ln 7 = 1.94591
    scores = ucb(bandit(), 0, Trees(exploration=0.7))
    assert scores == pytest.approx({1: 0.5 + 0.69047, 2: 0.75 + 0.97648, 3: 1.38094}, abs=1e-5)
    assert scores[3] == pytest.approx(0.7 * sqrt(2 * log(7)))
    assert select(bandit(), Trees(exploration=0.7)) == 2


def test_virtual_loss_counts_as_visits_of_return_0():
    tree = bandit()
    tree.occupy(2)
    scores = ucb(tree, 0, Trees(exploration=0.7, virtual_loss=1.0))
    # ln 8 = 2.07944; arm 2 has 3 visits and a mean of 0.75 * 2 / 3.
    assert scores == pytest.approx({1: 0.5 + 0.71376, 2: 0.5 + 0.82419, 3: 1.42753}, abs=1e-5)
    assert select(tree, Trees(exploration=0.7)) == 3
    assert select(tree, Trees(exploration=0.0)) == 1
    tree.release(2)
    assert (tree.nodes[0].virtual, tree.nodes[2].virtual, tree.nodes[2].busy) == (0, 0, False)
    assert select(tree, Trees(exploration=0.0)) == 2


def test_puct_by_hand():
    # sqrt(7) = 2.64575
    search = Trees(selection=Selection.puct, exploration=1.0)
    expected = {1: 0.5 + 0.26458, 2: 0.75 + 0.22048, 3: 0.33072}
    assert puct(bandit(), 0, search) == pytest.approx(expected, abs=1e-5)
    assert select(bandit(), search) == 2
    assert select(bandit(), Trees(selection=Selection.puct, exploration=100.0)) == 3


def test_the_prior_is_normalised_over_the_children():
    assert prior(bandit(), 0) == pytest.approx({1: 0.5, 2: 0.25, 3: 0.25})


def test_an_unvisited_child_comes_first_by_ucb():
    tree = bandit()
    tree.nodes[1].visits = 0
    assert select(tree, Trees()) == 1


def test_closed_children_are_passed_over_and_keep_their_values():
    tree = bandit()
    tree.close(2)
    assert select(tree, Trees(exploration=0.7)) == 3
    tree.close(3)
    assert select(tree, Trees(exploration=0.7)) == 1
    tree.close(1)
    assert tree.nodes[0].closed and select(tree, Trees()) is None
    assert [node.value for node in tree.nodes] == [0.5, 0.5, 0.75, 0.0]


def test_values_are_backed_up_with_their_discount():
    tree = Tree(TASK, [Node(-1, 0, "")])
    for parent in (0, 1, 2):
        tree.nodes.append(Node(parent, parent + 1, ""))
        tree.nodes[parent].children.append(parent + 1)
    tree.back_up(3, 1.0, 0.5)
    tree.back_up(1, 1.0, 0.5)
    assert [node.visits for node in tree.nodes] == [2, 2, 1, 1]
    assert [node.value for node in tree.nodes] == [(0.125 + 0.5) / 2, (0.25 + 1) / 2, 0.5, 1.0]


@pytest.mark.parametrize(("visits", "widening", "expected"), [(100, 0.0, 3), (100, 0.5, 10), (99, 0.5, 9), (4, 0.5, 3)])
def test_width_grows_with_visits(visits: int, widening: float, expected: int):
    assert width(Node(-1, 0, "", visits=visits), Trees(expansions=3, widening=widening)) == expected


def test_a_node_is_widened_when_its_visits_allow_or_nothing_else_is_left():
    tree = bandit()
    tree.nodes[0].sealed = False
    assert select(tree, Trees(expansions=3, widening=0.5)) == 2
    tree.nodes[0].visits = 16
    assert select(tree, Trees(expansions=3, widening=0.5)) == 0
    tree.nodes[0].busy = True
    assert select(tree, Trees(expansions=3, widening=0.5)) == 2, "below a node that is widened, simulations go on"
    tree.nodes[0].visits, tree.nodes[0].busy = 7, False
    for arm in (1, 2, 3):
        tree.close(arm)
    assert not tree.nodes[0].closed
    assert select(tree, Trees(expansions=3, widening=0.5)) == 0


def test_a_new_child_belongs_to_the_simulation_that_adds_it():
    tree = bandit()
    tree.nodes[0].sealed = False
    tree.nodes[2].visits = 0
    assert select(tree, Trees(exploration=0.7)) == 2
    tree.occupy(0)
    assert select(tree, Trees(exploration=0.7)) == 3, "child 2 is about to be rolled out"


def test_a_walk_goes_on_below_the_best_child():
    tree = bandit()
    tree.nodes[2].expanded = tree.nodes[2].sealed = True
    tree.nodes[2].children = [4, 5]
    tree.nodes += [Node(2, 2, "", visits=1, value=0.25), Node(2, 2, "", visits=1, value=0.75)]
    assert select(tree, Trees(exploration=0.7)) == 5
    tree.occupy(5)
    tree.nodes[4].busy = True
    assert select(tree, Trees(exploration=0.7)) == 3, "all below the best child is busy"


def test_e_is_the_base_of_all_logarithms():
    tree = Tree(TASK, [Node(-1, 0, "", visits=1, children=[1], expanded=True), Node(0, 1, "", visits=2)])
    tree.nodes[0].virtual = 1
    assert ucb(tree, 0, Trees(exploration=1.0, virtual_loss=e**2 - 1))[1] == pytest.approx(sqrt(2))

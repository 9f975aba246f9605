"""MCTS statistics: exact on a hand-solved tree, invariant on random ones, sound under parallel simulations."""

from __future__ import annotations

import asyncio
import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrm.config.schema import Search
from agentrm.environments.base import Grade, Observation, Task
from agentrm.errors import EnvironmentFailure
from agentrm.search.mcts import TreeSearch
from agentrm.search.tree import Tree
from tests.agentrm.search.toy import BARE, DEPTH, TASK, EvenPolicy, ScriptedPolicy, ToyGrader, ToySessions


def grow(policy, search: Search, sessions=None, grader=None) -> Tree:
    sessions = sessions or ToySessions()
    return asyncio.run(TreeSearch(policy, sessions, grader or ToyGrader(), search, BARE).grow(TASK))


def by_actions(tree: Tree) -> dict[tuple[str, ...], int]:
    return {tree.state(i).actions: i for i in range(len(tree.nodes))}


def test_two_iterations_by_hand():
    # Iteration 1 expands the root: left, right, left (merged). Rollouts: left-left-left = 0, right-right-left = 6/7.
    # V(root) = 3/7 with N = 2. UCB favours right (equal N, higher V). Iteration 2 expands `right`: its child
    # right-right is known, right-left is new and rolls out to right-left-right = 5/7.
    policy = ScriptedPolicy(
        {
            (): ["left", "right", "LEFT "],
            ("left",): ["left"],
            ("left", "left"): ["left"],
            ("right",): ["right", "right", "left", "right"],
            ("right", "right"): ["left"],
            ("right", "left"): ["right"],
        }
    )
    tree = grow(policy, Search(iterations=2, expansions=3, exploration=0.7, simulations=1, max_depth=9))
    nodes = {actions: tree.nodes[i] for actions, i in by_actions(tree).items()}
    assert (nodes[()].visits, nodes[()].value) == (3, pytest.approx((0 + 6 + 5) / 21))
    assert (nodes[("left",)].visits, nodes[("left",)].value, nodes[("left",)].merged) == (1, 0, 2)
    assert (nodes[("right",)].visits, nodes[("right",)].value) == (2, pytest.approx(11 / 14))
    assert (nodes[("right", "right")].merged, nodes[("right", "right")].visits) == (3, 1)
    assert nodes[("right", "left", "right")].outcome == pytest.approx(5 / 7)
    assert nodes[("right", "left")].outcome is None
    assert tree.iterations == 2 and tree.ended_by == "iterations"


def test_ucb_is_the_papers_formula():
    tree = grow(EvenPolicy(), Search(iterations=4, expansions=2, simulations=1, max_depth=9))
    child = tree.nodes[0].children[0]
    node, root = tree.nodes[child], tree.nodes[0]
    expected = node.value + 0.7 * math.sqrt(2 * math.log(root.visits) / node.visits)
    assert tree.ucb(child, 0.7, 1.0) == pytest.approx(expected)
    node.virtual = 2
    expected = node.value * node.visits / (node.visits + 2) + 0.7 * math.sqrt(
        2 * math.log(root.visits) / (node.visits + 2)
    )
    assert tree.ucb(child, 0.7, 1.0) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    iterations=st.integers(1, 20),
    expansions=st.integers(1, 4),
    simulations=st.integers(1, 6),
)
def test_whole_trees_are_consistent(seed: int, iterations: int, expansions: int, simulations: int):
    sessions = ToySessions()
    tree = grow(
        EvenPolicy(seed),
        Search(iterations=iterations, expansions=expansions, simulations=simulations, max_depth=9),
        sessions,
    )
    assert len(set(sessions.asked)) == len(sessions.asked), "an environment step was paid twice"
    outcomes = {i: node.outcome for i, node in enumerate(tree.nodes) if node.outcome is not None}
    for index, node in enumerate(tree.nodes):
        below = [outcome for i, outcome in outcomes.items() if index in tree.path(i)]
        assert node.visits == len(below)
        assert node.value == pytest.approx(fmean(below))
        assert not node.busy and node.virtual == 0
        assert node.terminal == (node.depth == DEPTH)
        actions = [tree.nodes[i].action for i in node.children]
        assert len(set(actions)) == len(actions), "equal actions were not merged"
        assert all(i > index for i in node.children)


def test_search_prefers_the_better_side():
    trees = [
        grow(EvenPolicy(seed), Search(iterations=6, expansions=3, simulations=1, max_depth=9)) for seed in range(60)
    ]
    shares = []
    for tree in trees:
        visits = {tree.nodes[i].action: tree.nodes[i].visits for i in tree.nodes[0].children}
        if len(visits) == 2:
            shares.append(visits["right"] / sum(visits.values()))
    assert fmean(shares) > 0.5


def test_an_exhausted_tree_ends_before_its_budget():
    tree = grow(EvenPolicy(3), Search(iterations=500, expansions=4, simulations=4, max_depth=9))
    assert tree.ended_by == "exhausted" and tree.iterations < 500


def test_depth_limit_ends_rollouts_with_a_grade():
    tree = grow(EvenPolicy(), Search(iterations=3, expansions=2, simulations=1, max_depth=2))
    leaves = [node for node in tree.nodes if not node.children]
    assert leaves and all(node.depth == 2 and not node.terminal and node.outcome is not None for node in leaves)


class BrokenSessions(ToySessions):
    """Fails below `left`."""

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        if len(actions) > 1 and actions[0] == "left":
            raise EnvironmentFailure("the engine died")
        return await super().observe(task, actions)


class CountingGrader(ToyGrader):
    def __init__(self) -> None:
        self.graded: list[tuple[str, ...]] = []

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        self.graded.append(actions)
        return await super().grade(task, actions)


def test_environment_failures_are_never_the_policys_reward():
    grader = CountingGrader()
    tree = grow(EvenPolicy(1), Search(iterations=8, expansions=3, simulations=1, max_depth=9), BrokenSessions(), grader)
    assert tree.environment_errors >= 1
    assert all(actions[0] == "right" for actions in grader.graded)
    left = by_actions(tree).get(("left",))
    assert left is not None and tree.nodes[left].visits == 0

"""Rollouts: to the end of the episode, or cut and valued by the reward model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

import pytest

from agentrm.config.schema import Trees
from agentrm.core.errors import ContextOverflow, UserError
from agentrm.core.state import Proposal, State
from agentrm.core.tree import Tree
from agentrm.search.mcts import TreeSearch
from tests.agentrm.search.toy import BARE, TASK, EvenPolicy, ScriptedPolicy, ToyGrader, ToySessions, TrueValue


class Fixed:
    """One score for every state."""

    def __init__(self, value: float) -> None:
        self.value = value

    async def score(self, states: Sequence[State]) -> list[float]:
        return [self.value] * len(states)


def grow(policy, search: Trees, reward_model) -> Tree:
    return asyncio.run(TreeSearch(policy, ToySessions(), ToyGrader(), search, BARE, reward_model).grow(TASK))


def test_a_cut_rollout_by_hand():
    # One sampled step after each new child, then the best leaf below: left-left -> 1/7, right-left -> 5/7.
    policy = ScriptedPolicy({(): ["left", "right"], ("left",): ["left"], ("right",): ["left"]})
    search = Trees(iterations=1, expansions=2, rollout_steps=1, discount=0.5, max_depth=9)
    tree = grow(policy, search, TrueValue())
    nodes = {tree.state(i).actions: tree.nodes[i] for i in range(len(tree.nodes))}
    assert nodes["left", "left"].estimate == pytest.approx(1 / 7)
    assert nodes["right", "left"].estimate == pytest.approx(5 / 7)
    assert nodes["right",].value == pytest.approx(5 / 14)
    assert nodes[()].value == pytest.approx((1 / 28 + 5 / 28) / 2)
    assert all(node.outcome is None and not node.closed for node in tree.nodes)


def test_no_steps_value_the_new_children_themselves():
    policy = ScriptedPolicy({(): ["left", "right"]})
    tree = grow(policy, Trees(iterations=1, expansions=2, rollout_steps=0, max_depth=9), TrueValue())
    assert [node.estimate for node in tree.nodes] == [None, pytest.approx(3 / 7), pytest.approx(1)]


def test_an_episode_that_ends_first_is_graded():
    policy = ScriptedPolicy({(): ["left"], ("left",): ["left"], ("left", "left"): ["right"]})
    tree = grow(policy, Trees(iterations=1, expansions=1, rollout_steps=2, max_depth=9), TrueValue())
    assert tree.nodes[3].outcome == pytest.approx(1 / 7) and tree.nodes[3].estimate is None


@pytest.mark.parametrize(("score", "value"), [(1.5, 1.0), (-0.25, 0.0)])
def test_values_stay_where_outcomes_are(score: float, value: float):
    policy = ScriptedPolicy({(): ["left"]})
    tree = grow(policy, Trees(iterations=1, expansions=1, rollout_steps=0, max_depth=9), Fixed(score))
    assert tree.nodes[1].estimate == value


def test_a_state_beyond_the_reward_models_context_is_rolled_out():
    policy = ScriptedPolicy({(): ["left"], ("left",): ["left"], ("left", "left"): ["left"]})
    tree = grow(policy, Trees(iterations=1, expansions=1, rollout_steps=0, max_depth=9), Fixed(-inf))
    assert tree.nodes[3].outcome == 0


def test_a_state_beyond_the_policys_context_ends_its_episode_with_a_grade():
    class Short(EvenPolicy):
        async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
            if len(state.steps) == 2:
                raise ContextOverflow("too long")
            return await super().propose(state, n, seed=seed, greedy=greedy)

    tree = grow(Short(), Trees(iterations=30, expansions=4, max_depth=9), None)
    ends = [node for node in tree.nodes if node.depth == 2]
    assert ends and all(node.outcome is not None and node.closed and not node.terminal for node in ends)


def test_cut_rollouts_need_a_reward_model():
    with pytest.raises(UserError, match=r"trees\.bootstrap"):
        grow(EvenPolicy(), Trees(rollout_steps=1), None)

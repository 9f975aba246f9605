"""MCTS statistics: exact on a hand-solved tree, invariant on random ones, sound under parallel simulations."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrm.config.schema import Selection, Trees
from agentrm.core.errors import (
    AgentRMError,
    ContextOverflow,
    EnvironmentFailure,
    InputRefused,
    ModelError,
    ModelUnavailable,
    UserError,
)
from agentrm.core.state import Proposal, State
from agentrm.core.task import Grade, Observation, Task
from agentrm.core.tree import Tree
from agentrm.search.mcts import TreeSearch
from tests.agentrm.search.toy import BARE, DEPTH, TASK, EvenPolicy, ScriptedPolicy, ToyGrader, ToySessions, TrueValue


def grow(policy, search: Trees, sessions=None, reward_model=None, grader=None) -> Tree:
    sessions, grader = sessions or ToySessions(), grader or ToyGrader()
    return asyncio.run(TreeSearch(policy, sessions, grader, search, BARE, reward_model).grow(TASK))


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
    tree = grow(policy, Trees(iterations=2, expansions=3, exploration=0.7, simulations=1, max_depth=9))
    nodes = {actions: tree.nodes[i] for actions, i in by_actions(tree).items()}
    assert (nodes[()].visits, nodes[()].value) == (3, pytest.approx((0 + 6 + 5) / 21))
    assert (nodes[("left",)].visits, nodes[("left",)].value, nodes[("left",)].merged) == (1, 0, 2)
    assert (nodes[("right",)].visits, nodes[("right",)].value) == (2, pytest.approx(11 / 14))
    assert (nodes[("right", "right")].merged, nodes[("right", "right")].visits) == (3, 1)
    assert nodes[("right", "left", "right")].outcome == pytest.approx(5 / 7)
    assert nodes[("right", "left")].outcome is None
    assert tree.iterations == 2 and tree.ended_by == "iterations"


def test_rollouts_of_one_child_draw_apart_and_share_their_path():
    # The root is expanded by left; its three rollouts take right-left, right-right and again right-right.
    class ByRollout(EvenPolicy):
        async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
            table = {
                (): ["left"],
                ("left",): ["right"],
                ("left", "right"): {-1: ["left"], -2: ["right"], -3: ["right"]}.get(seed),
            }
            return [Proposal(action, action, logprob=-0.693, tokens=1) for action in table[state.actions]]

    tree = grow(ByRollout(), Trees(iterations=1, expansions=1, rollouts=3, simulations=1, max_depth=9))
    nodes = {actions: tree.nodes[i] for actions, i in by_actions(tree).items()}
    assert set(nodes) == {(), ("left",), ("left", "right"), ("left", "right", "left"), ("left", "right", "right")}
    assert (nodes[()].visits, nodes[()].value) == (3, pytest.approx(8 / 21))
    assert (nodes[("left",)].merged, nodes[("left", "right")].merged) == (1, 3)
    last = nodes[("left", "right", "right")]
    assert (last.visits, last.merged, last.outcome) == (2, 2, pytest.approx(3 / 7))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    search=st.builds(
        Trees,
        iterations=st.integers(1, 20),
        expansions=st.integers(1, 4),
        simulations=st.integers(1, 6),
        selection=st.sampled_from(Selection),
        widening=st.sampled_from([0.0, 0.5, 1.0]),
        resamples=st.integers(0, 2),
        merge_states=st.booleans(),
        rollouts=st.integers(1, 3),
        discount=st.sampled_from([0.5, 0.9, 1.0]),
        rollout_steps=st.sampled_from([None, 0, 1]),
        max_tokens=st.sampled_from([None, 12]),
        max_depth=st.just(9),
    ),
)
def test_whole_trees_are_consistent(seed: int, search: Trees):
    sessions = SlowSessions(seed)
    policy = EvenPolicy(seed)
    returns: list[tuple[int, float]] = []

    def recorded(tree: Tree, index: int, value: float, discount: float) -> None:
        returns.append((index, value))
        back_up(tree, index, value, discount)

    back_up = Tree.back_up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tree, "back_up", recorded)
        tree = grow(policy, search, sessions, TrueValue())
    assert len(set(sessions.asked)) == len(sessions.asked), "an environment step was paid twice"
    assert tree.environment_steps == len(sessions.asked) - 1
    assert tree.policy_tokens == policy.sampled
    ended = Counter(index for index, _ in returns)
    for i, node in enumerate(tree.nodes):
        assert node.outcome is None or node.estimate is None, "a node ends an episode or is cut, never both"
        own = node.outcome if node.estimate is None else node.estimate
        assert (1 <= ended[i] <= search.rollouts) if own is not None else not ended[i]
        assert all(value == own for index, value in returns if index == i)
    for index, node in enumerate(tree.nodes):
        below = [
            value * search.discount ** (tree.nodes[i].depth - node.depth)
            for i, value in returns
            if index in tree.path(i)
        ]
        assert node.visits == len(below) == sum(tree.nodes[i].visits for i in node.children) + ended[index]
        assert node.value == pytest.approx(fmean(below))
        assert not node.busy and node.virtual == 0
        assert node.terminal == (node.depth == DEPTH)
        assert not node.closed or node.outcome is not None or all(tree.nodes[i].closed for i in node.children)
        actions = [tree.nodes[i].action for i in node.children]
        assert len(set(actions)) == len(actions), "equal actions were not merged"
        assert all(i > index for i in node.children)


def test_search_prefers_the_better_side():
    trees = [
        grow(EvenPolicy(seed), Trees(iterations=6, expansions=3, simulations=1, max_depth=9)) for seed in range(60)
    ]
    shares = []
    for tree in trees:
        visits = {tree.nodes[i].action: tree.nodes[i].visits for i in tree.nodes[0].children}
        if len(visits) == 2:
            shares.append(visits["right"] / sum(visits.values()))
    assert fmean(shares) > 0.5


def test_an_exhausted_tree_ends_before_its_budget():
    tree = grow(EvenPolicy(3), Trees(iterations=500, expansions=4, simulations=4, max_depth=9))
    assert tree.ended_by == "exhausted" and tree.iterations < 500


def test_depth_limit_ends_rollouts_with_a_grade():
    tree = grow(EvenPolicy(), Trees(iterations=3, expansions=2, simulations=1, max_depth=2))
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
    tree = grow(
        EvenPolicy(1), Trees(iterations=8, expansions=3, simulations=1, max_depth=9), BrokenSessions(), None, grader
    )
    assert tree.environment_errors >= 1
    assert all(actions[0] == "right" for actions in grader.graded)
    left = by_actions(tree).get(("left",))
    assert left is not None and tree.nodes[left].visits == 0


def test_a_failing_action_costs_itself_alone():
    class LeftFails(ToySessions):
        async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
            if actions == ("left",):
                raise EnvironmentFailure("the engine died")
            return await super().observe(task, actions)

    tree = grow(EvenPolicy(1), Trees(iterations=50, expansions=4, simulations=1, max_depth=9), LeftFails())
    assert [tree.nodes[i].action for i in tree.nodes[0].children] == ["right"]
    assert tree.environment_errors == 1 and tree.ended_by == "exhausted"


class FlakyPolicy(EvenPolicy):
    """Fails at the calls with these numbers."""

    def __init__(self, failing: set[int]) -> None:
        super().__init__()
        self.failing = failing
        self.calls = 0

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        self.calls += 1
        if self.calls in self.failing:
            raise ModelError("the engine hiccuped")
        return await super().propose(state, n, seed=seed, greedy=greedy)


def test_an_engine_that_fails_now_and_then_is_asked_again():
    search = Trees(iterations=12, expansions=3, simulations=1, max_depth=9)
    tree = grow(FlakyPolicy({1, 4}), search)
    assert tree.engine_errors == 2 and tree.nodes[0].visits >= 2
    assert all(not node.busy and node.virtual == 0 for node in tree.nodes)


def test_an_engine_that_keeps_failing_ends_the_search():
    with pytest.raises(ModelError, match="hiccuped"):
        grow(FlakyPolicy(set(range(100))), Trees(iterations=50, simulations=2, max_depth=9))


class Refusing(EvenPolicy):
    """Raises an error in the states after these actions."""

    def __init__(self, error: AgentRMError, *states: tuple[str, ...]) -> None:
        super().__init__(1)
        self.error = error
        self.states = states

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        if state.actions in self.states:
            raise self.error
        return await super().propose(state, n, seed=seed, greedy=greedy)


def test_a_refused_state_costs_its_lane_alone():
    grader = CountingGrader()
    policy = Refusing(InputRefused("filtered"), ("left",), ("right", "right"))
    tree = grow(policy, Trees(iterations=30, expansions=4, max_depth=9), None, None, grader)
    nodes = {actions: tree.nodes[i] for actions, i in by_actions(tree).items()}
    assert tree.grown and tree.ended_by == "exhausted" and tree.engine_errors == 2
    assert {actions[:2] for actions in grader.graded} == {("right", "left")}
    assert nodes["left",].closed and nodes["left",].visits == nodes["right", "right"].visits == 0


def test_a_rollout_that_the_engine_breaks_off_leaves_the_others_alone():
    # Two rollouts begin at once below the root's children; the first turn of one is not answered.
    tree = grow(FlakyPolicy({2}), Trees(iterations=1, expansions=4, rollouts=3, max_depth=9))
    assert tree.engine_errors == 1 and tree.nodes[0].visits == 5
    assert all(not node.busy and node.virtual == 0 for node in tree.nodes)


def test_more_rollouts_than_failures_make_a_tree():
    """Its errors are many, and each costs an iteration, but they are not the rule."""
    search = Trees(iterations=40, expansions=3, rollouts=6, simulations=1, max_depth=9)
    tree = grow(FlakyPolicy(set(range(1, 200, 3))), search)
    assert tree.engine_errors > 5 and tree.grown


def test_without_its_model_no_tree_grows():
    with pytest.raises(ModelUnavailable, match="wrong key"):
        grow(Refusing(ModelUnavailable("wrong key"), ("left",)), Trees(iterations=30, expansions=4, max_depth=9))


@pytest.mark.parametrize(
    "error",
    [ContextOverflow("too long"), InputRefused("filtered"), ModelError("no answer"), EnvironmentFailure("died")],
)
def test_a_tree_without_a_rollout_says_why(error: AgentRMError):
    tree = grow(Refusing(error, ()), Trees(iterations=3, max_depth=9))
    assert not tree.grown and tree.failure is error
    assert tree.nodes[0].outcome is None, "what was never played has no outcome"


def test_a_task_that_is_over_at_once_makes_no_tree():
    class Over(ToySessions):
        async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
            return Observation("the end", done=True)

    class Lost(ToyGrader):
        async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
            return Grade(0.0, 0.0, False)

    tree = grow(EvenPolicy(), Trees(iterations=3, max_depth=9), Over(), None, Lost())
    assert not tree.grown and "before its first action" in str(tree.failure)


@pytest.mark.parametrize(
    ("budget", "ended_by"), [({"max_tokens": 10}, "tokens"), ({"max_steps": 7}, "steps"), ({}, "iterations")]
)
def test_the_first_budget_that_is_used_up_ends_the_search(budget: dict[str, int], ended_by: str):
    # The first simulation expands the root by both actions and rolls them out: 3 + 2 * 2 tokens, 2 + 2 * 2 steps.
    # The second one takes each budget past its limit, and is finished.
    search = Trees(iterations=3, expansions=3, simulations=1, max_depth=9, **budget)
    tree = grow(EvenPolicy(1), search)
    assert tree.ended_by == ended_by
    assert tree.iterations == (3 if ended_by == "iterations" else 2)
    assert all(tree.nodes[i].visits for i in range(len(tree.nodes)))


def test_a_straggler_is_cut_by_the_budget_of_seconds():
    class Stuck(ToySessions):
        async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
            if actions[:1] == ("left",):
                await asyncio.Event().wait()
            return await super().observe(task, actions)

    tree = grow(
        ScriptedPolicy({(): ["left"]}), Trees(iterations=5, expansions=1, max_seconds=0.05, max_depth=9), Stuck()
    )
    assert tree.ended_by == "seconds" and tree.nodes[0].visits == 0
    assert not tree.grown and isinstance(tree.failure, UserError) and "trees.max_seconds" in str(tree.failure)
    assert not tree.nodes[0].busy and tree.nodes[0].virtual == 0
    assert 0.05 <= tree.seconds < 5


def test_a_second_tree_of_a_task_pays_only_for_what_is_new():
    sessions, policy = ToySessions(), EvenPolicy(3)
    search = Trees(iterations=2, expansions=2, simulations=2, max_depth=9)

    async def both() -> tuple[Tree, Tree]:
        trees = TreeSearch(policy, sessions, ToyGrader(), search, BARE)
        calls = trees.calls(TASK)
        return await trees.grow(TASK, 0, calls), await trees.grow(TASK, 1, calls)

    first, second = asyncio.run(both())
    asked = [actions for actions in sessions.asked if actions]
    assert len(set(asked)) == len(asked), "an environment step was paid twice"
    edges = [{tree.state(i).actions for i in range(1, len(tree.nodes))} for tree in (first, second)]
    assert edges[0] != edges[1], "the trees drew the same expansions"
    assert second.environment_steps == len(edges[1] - edges[0]) < len(edges[1])
    assert first.environment_steps == len(edges[0])
    assert second.policy_tokens == policy.sampled - first.policy_tokens
    alone = grow(EvenPolicy(3), search)
    assert [node.action for node in alone.nodes] == [node.action for node in first.nodes]


def test_parallel_search_is_as_good_as_serial_search():
    """At equal iterations, virtual loss must not cost quality: visits of the better side, and the best leaf found."""

    def quality(simulations: int) -> tuple[float, float]:
        search = Trees(iterations=5, expansions=2, simulations=simulations, max_depth=9)
        shares, best = [], []
        for seed in range(400):
            tree = grow(EvenPolicy(seed), search, SlowSessions(seed))
            right = sum(tree.nodes[i].visits for i in tree.nodes[0].children if tree.nodes[i].action == "right")
            shares.append(right / tree.nodes[0].visits)
            best.append(max(node.outcome for node in tree.nodes if node.outcome is not None))
        return fmean(shares), fmean(best)

    serial, parallel = quality(1), quality(4)
    # The standard error of either difference is about 0.02.
    assert parallel == pytest.approx(serial, abs=0.06)


class SlowSessions(ToySessions):
    """Answers after a few turns of the event loop, so that simulations overlap in another order for each seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        for _ in range(Random(f"{self.seed}|{actions}").randrange(4)):
            await asyncio.sleep(0)
        return await super().observe(task, actions)

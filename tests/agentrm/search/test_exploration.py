"""Budgets, merged duplicates, and the books of a search, for every method."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrm.config.schema import Aggregate, Evaluate, Method, Scored
from agentrm.core.errors import EnvironmentFailure, InputRefused, ModelError
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.data.trees import TreeStore
from agentrm.models.baselines import RandomScores
from agentrm.search.beam import Beam
from agentrm.search.best_of_n import BestOfN
from agentrm.search.methods import strategy
from agentrm.search.result import Result
from agentrm.search.shared import SharedPolicy
from agentrm.search.strategy import search
from tests.agentrm.search.test_strategies import LEFT, RIGHT, SETTINGS, beam_script, run
from tests.agentrm.search.toy import BARE, DEPTH, TASK, EvenPolicy, ScriptedPolicy, ToySessions, TrueValue, leaf_value

TOKENS_PER_ROUND = 12


class Watched(TrueValue):
    """Keeps what it was asked to score."""

    def __init__(self) -> None:
        self.states: list[State] = []

    async def score(self, states: list[State]) -> list[float]:
        self.states += states
        return await super().score(states)


class SlowSessions(ToySessions):
    """Answers after a few turns of the event loop, in another order for each seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = Random(seed)

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        for _ in range(self.draw.randrange(5)):
            await asyncio.sleep(0)
        return await super().observe(task, actions)


def maybe(low: int, high: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(low, high)


limits = st.builds(
    Evaluate,
    n=st.integers(1, 5),
    width=st.integers(1, 3),
    branches=st.integers(1, 3),
    lookahead=st.integers(1, 3),
    iterations=st.integers(1, 9),
    aggregate=st.sampled_from(Aggregate),
    score=st.sampled_from(Scored),
    max_tokens=maybe(1, 30),
    max_steps=maybe(1, 20),
    max_scores=maybe(1, 15),
    gate=st.sampled_from([None, 0.5, 1.0]),
    max_depth=st.just(9),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(method=st.sampled_from(Method), chosen=limits, seed=st.integers(0, 10**6))
def test_no_search_goes_beyond_its_budget(method: Method, chosen: Evaluate, seed: int):
    reward_model, sessions, policy = Watched(), ToySessions(), EvenPolicy(seed)
    result = run(strategy(method, chosen), policy, reward_model, chosen, sessions)
    cost, tree = result.cost, result.tree
    assert len(set(sessions.asked)) == len(sessions.asked) == cost.environment_steps + 1, "a step was executed twice"
    conversations = [str(state.conversation().messages) for state in reward_model.states]
    assert len(set(conversations)) == len(conversations) == cost.scored_states, "a state was scored twice"
    assert cost.policy_tokens == policy.sampled
    assert chosen.max_steps is None or cost.environment_steps <= chosen.max_steps
    assert chosen.max_scores is None or cost.scored_states <= chosen.max_scores
    assert chosen.max_tokens is None or cost.policy_tokens < chosen.max_tokens + TOKENS_PER_ROUND
    assert result.finished == (len(result.state.steps) == DEPTH)
    assert result.ended_by in ("complete", "gate", "tokens", "steps", "scores")
    assert (cost.scored_states == 0) == (
        method in (Method.greedy, Method.sample, Method.majority) or not tree.nodes[1:]
    )
    assert not (result.cut and chosen.max_tokens is chosen.max_steps is chosen.max_scores is None)
    if result.ended_by == "gate":
        assert result.finished and result.score is not None and chosen.gate is not None and result.score >= chosen.gate
    scored = {tree.actions(i): node.estimate for i, node in enumerate(tree.nodes) if node.estimate is not None}
    assert set(scored) == {state.actions for state in reward_model.states}
    assert all(tree.nodes[i].visits == sum(tree.nodes[c].visits for c in tree.nodes[i].children) for i in [0])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(method=st.sampled_from(Method), chosen=limits, seed=st.integers(0, 10**6))
def test_what_a_budget_cuts_does_not_depend_on_timing(method: Method, chosen: Evaluate, seed: int):
    first, again = (
        run(strategy(method, chosen), EvenPolicy(seed), RandomScores(seed), chosen, sessions)
        for sessions in (ToySessions(), SlowSessions(seed))
    )
    assert (first.state, first.score, first.ended_by) == (again.state, again.score, again.ended_by)
    first.cost.seconds = again.cost.seconds = 0
    assert first.cost == again.cost


@pytest.mark.parametrize(
    ("budget", "ended_by", "steps", "tokens"),
    [({"max_steps": 3}, "steps", 3, 6), ({"max_scores": 3}, "scores", 5, 6), ({"max_tokens": 3}, "tokens", 3, 4)],
)
def test_a_budget_that_is_used_up_gives_the_best_so_far(budget: dict[str, int], ended_by: str, steps: int, tokens: int):
    # The first two rounds take two steps and one, and as many scores, and two tokens each.
    result = run(Beam(1, 2), beam_script(), TrueValue(), replace(SETTINGS, **budget))
    assert result.ended_by == ended_by and result.cut and not result.finished
    assert result.state.actions == (RIGHT, LEFT) and result.score == pytest.approx(5 / 7)
    assert (result.cost.environment_steps, result.cost.policy_tokens) == (steps, tokens)
    assert result.tree.ended_by == ended_by and result.tree.policy_tokens == tokens


def test_a_budget_ends_some_episodes_rather_than_cutting_all():
    result = run(BestOfN(5), EvenPolicy(), TrueValue(), replace(SETTINGS, max_tokens=6))
    assert result.finished and result.ended_by == "tokens" and result.cost.policy_tokens == 6
    assert result.cost.scored_states == 2


def test_a_straggler_is_cut_by_the_budget_of_seconds():
    class Stuck(ToySessions):
        async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
            if actions == (RIGHT, LEFT):
                await asyncio.Event().wait()
            return await super().observe(task, actions)

    result = run(Beam(1, 2), beam_script(), TrueValue(), replace(SETTINGS, max_seconds=0.2), Stuck())
    assert result.ended_by == "seconds" and result.state.actions == (RIGHT,) and result.score == 1


def test_an_environment_that_fails_is_told():
    class Broken(ToySessions):
        async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
            if actions == (LEFT,):
                raise EnvironmentFailure("the engine died")
            return await super().observe(task, actions)

    with pytest.raises(EnvironmentFailure, match="died"):
        run(Beam(1, 2), beam_script(), TrueValue(), sessions=Broken())


@pytest.mark.parametrize("method", [Method.greedy, Method.majority, Method.best_of_n, Method.beam, Method.mcts_puct])
def test_a_state_that_the_policy_refuses_ends_its_episode_and_is_counted(method: Method):
    class Refusing(EvenPolicy):
        async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
            if state.actions[:1] == (LEFT,):
                raise InputRefused("filtered")
            return await super().propose(state, n, seed=seed, greedy=greedy)

    result = run(strategy(method, replace(SETTINGS, n=8)), Refusing(3), TrueValue())
    assert result.tree.engine_errors > 0
    assert result.finished == (result.state.actions[0] == RIGHT)
    assert result.finished or method in (Method.greedy, Method.majority)


def test_a_policy_that_does_not_answer_is_told():
    class Silent(EvenPolicy):
        async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
            raise ModelError("no answer")

    with pytest.raises(ModelError, match="no answer"):
        run(Beam(1, 2), Silent(), TrueValue())


class ByAction:
    """Scores a state by its last action alone: left 0.25, right 0.5."""

    async def score(self, states: Sequence[State]) -> list[float]:
        return [0.25 if state.actions[-1] == LEFT else 0.5 for state in states]


@pytest.mark.parametrize(("how", "value"), [("last", 0.5), ("min", 0.25), ("mean", 1.25 / 3), ("product", 0.0625)])
def test_the_states_of_a_trajectory_are_aggregated(how: str, value: float):
    policy = ScriptedPolicy({(): [LEFT, LEFT], (LEFT,): [RIGHT, LEFT], (LEFT, RIGHT): [RIGHT, LEFT]})
    result = run(Beam(1, 2), policy, ByAction(), replace(SETTINGS, aggregate=Aggregate(how)))
    assert result.state.actions == (LEFT, RIGHT, RIGHT) and result.score == pytest.approx(value)


def test_every_state_on_the_way_is_scored_where_all_count():
    settings_ = replace(SETTINGS, aggregate=Aggregate.min)
    result = run(BestOfN(4), EvenPolicy(), TrueValue(), settings_)
    assert result.cost.scored_states == len(result.tree.nodes) - 1
    assert result.score == max(
        leaf_value(result.tree.actions(i)) for i, n in enumerate(result.tree.nodes) if n.terminal
    )


@pytest.mark.parametrize("scored", Scored)
def test_the_explored_tree_can_be_stored_and_read(tmp_path: Path, scored: Scored):
    result = run(Beam(2, 2, scored), EvenPolicy(), TrueValue())
    store = TreeStore(tmp_path)
    store.write(result.tree)
    (read,) = store.trees()
    assert {read.actions(i): (node.estimate, node.visits) for i, node in enumerate(read.nodes)} == {
        result.tree.actions(i): (node.estimate, node.visits) for i, node in enumerate(result.tree.nodes)
    }
    answered = [node.answered for node in read.nodes]
    assert answered == [node.answered for node in result.tree.nodes]
    assert all(answered) == (scored is Scored.after_acting)
    assert read.ended_by == "complete" and read.policy_tokens == result.cost.policy_tokens


class CountedPolicy(EvenPolicy):
    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        await asyncio.sleep(0)
        return await super().propose(state, n, seed=seed, greedy=greedy)


def test_searches_that_share_a_policy_sample_once():
    policy = CountedPolicy()
    shared = SharedPolicy(policy)

    async def both() -> tuple[Result, Result]:
        first, second = (
            search(BestOfN(4), TASK, shared, ToySessions(), reward_model, SETTINGS, BARE)
            for reward_model in (TrueValue(), RandomScores(0))
        )
        return await asyncio.gather(first, second)

    first, second = asyncio.run(both())
    assert first.cost.policy_tokens == second.cost.policy_tokens == policy.sampled == 4 * DEPTH

"""Test-time searches on the hand-solved tree, and the proof that none of them can reach the true reward."""

from __future__ import annotations

import asyncio
import inspect
import typing

import pytest

from agentrm.models.base import Grader, Policy, RewardModel, Sessions
from agentrm.models.reward import RandomScores, ShortestFirst
from agentrm.search.beam import beam_search
from agentrm.search.best_of_n import best_of, best_of_n, sample
from agentrm.search.greedy import greedy
from tests.agentrm.search.toy import BARE, TASK, EvenPolicy, ScriptedPolicy, ToySessions, TrueValue, leaf_value

LIMITS = {"max_depth": 9, "opening": BARE}


def test_greedy_takes_the_most_likely_action():
    result = asyncio.run(greedy(TASK, EvenPolicy(), ToySessions(), **LIMITS))
    assert result.state.actions == ("left", "left", "left") and result.finished and result.score is None
    assert (result.cost.policy_tokens, result.cost.environment_steps) == (3, 3)


def test_best_of_n_keeps_the_highest_score():
    candidates = asyncio.run(sample(TASK, EvenPolicy(5), ToySessions(), 5, **LIMITS))
    assert len({candidate.state.actions for candidate in candidates}) > 1
    result = asyncio.run(best_of(candidates, TrueValue()))
    assert result.score == max(leaf_value(candidate.state.actions) for candidate in candidates)
    assert result.cost.policy_tokens == 15 and result.cost.scored_states == 5
    again = asyncio.run(best_of_n(TASK, EvenPolicy(5), ToySessions(), TrueValue(), 5, **LIMITS))
    assert again.state == result.state


def test_beam_by_hand():
    # 1 x 2: both first actions are scored, right stays; from right only left is proposed, and so on.
    policy = ScriptedPolicy({(): ["left", "right"], ("right",): ["left", "left"], ("right", "left"): ["right", "left"]})
    sessions = ToySessions()
    result = asyncio.run(beam_search(TASK, policy, sessions, TrueValue(), 1, 2, **LIMITS))
    assert result.state.actions == ("right", "left", "right")
    assert result.score == pytest.approx(5 / 7)
    assert result.cost.policy_tokens == 6
    assert result.cost.scored_states == result.cost.environment_steps == 5, (
        "equal candidates are merged before they run"
    )


def test_beam_finds_the_best_leaf_when_the_reward_model_is_right():
    result = asyncio.run(beam_search(TASK, EvenPolicy(), ToySessions(), TrueValue(), 3, 4, **LIMITS))
    assert result.state.actions == ("right", "right", "right") and result.finished


def test_a_cut_search_says_that_it_did_not_finish():
    result = asyncio.run(beam_search(TASK, EvenPolicy(), ToySessions(), TrueValue(), 2, 2, max_depth=2, opening=BARE))
    assert not result.finished and len(result.state.steps) == 2


def test_baselines():
    candidates = asyncio.run(sample(TASK, EvenPolicy(), ToySessions(), 2, **LIMITS))
    states = [candidates[0].state, candidates[1].state]
    assert asyncio.run(ShortestFirst().score(states)) == [-3, -3]
    first, again = (asyncio.run(RandomScores(1).score(states)) for _ in range(2))
    assert first == again and all(0 <= score < 1 for score in first)
    assert asyncio.run(RandomScores(2).score(states)) != first


def test_no_strategy_holds_a_grader():
    for strategy in (greedy, sample, best_of, best_of_n, beam_search):
        hints = typing.get_type_hints(strategy)
        assert Grader not in hints.values(), strategy
        assert set(hints.values()).isdisjoint({Grader})
    for protocol in (Policy, RewardModel, Sessions):
        assert not [name for name, _ in inspect.getmembers(protocol) if "grade" in name or "outcome" in name]

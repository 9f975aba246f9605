"""Test-time searches on the hand-solved tree, and the proof that none of them can reach the true reward."""

from __future__ import annotations

import asyncio
import inspect
import typing
from dataclasses import replace

import pytest

from agentrm.config.schema import Evaluate, Method, Scored, Selection
from agentrm.core.protocols import Grader, Policy, RewardModel, Sessions
from agentrm.core.state import Proposal, State
from agentrm.core.task import Grade
from agentrm.models.baselines import RandomScores, ShortestFirst
from agentrm.search.beam import Beam
from agentrm.search.best_of_n import BestOfN
from agentrm.search.dvts import DVTS
from agentrm.search.exploration import Exploration
from agentrm.search.greedy import Greedy
from agentrm.search.guided_mcts import GuidedMCTS
from agentrm.search.lookahead import Lookahead
from agentrm.search.methods import strategy
from agentrm.search.result import Result
from agentrm.search.sampling import Sample, sample
from agentrm.search.stepwise import Stepwise
from agentrm.search.strategy import Strategy, search
from agentrm.search.voting import Majority, Weighted
from tests.agentrm.search.toy import (
    BARE,
    DEPTH,
    TASK,
    EvenPolicy,
    ScriptedPolicy,
    ToySessions,
    TrueValue,
    leaf_value,
)

SETTINGS = Evaluate(max_depth=9)
LEFT, RIGHT = "left", "right"


def run(made: Strategy, policy, reward_model=None, settings: Evaluate = SETTINGS, sessions=None) -> Result:
    return asyncio.run(search(made, TASK, policy, sessions or ToySessions(), reward_model, settings, BARE))


def five_episodes() -> ScriptedPolicy:
    """lll, rrl, rrl, llr, rrr, whether they are played side by side or one after another."""
    return ScriptedPolicy(
        {
            (): [LEFT, RIGHT, RIGHT, LEFT, RIGHT],
            (LEFT,): [LEFT, LEFT],
            (RIGHT,): [RIGHT, RIGHT, RIGHT],
            (LEFT, LEFT): [LEFT, RIGHT],
            (RIGHT, RIGHT): [LEFT, LEFT, RIGHT],
        }
    )


def test_greedy_takes_the_most_likely_action():
    result = run(Greedy(), EvenPolicy())
    assert result.state.actions == (LEFT, LEFT, LEFT) and result.finished and result.score is None
    assert (result.cost.policy_tokens, result.cost.environment_steps, result.cost.scored_states) == (3, 3, 0)
    assert result.ended_by == "complete" and not result.cut


def test_a_sample_is_the_first_of_n():
    assert run(Sample(), five_episodes()).state.actions == (LEFT, LEFT, LEFT)


def test_best_of_n_keeps_the_highest_score():
    result = run(BestOfN(5), five_episodes(), TrueValue())
    assert result.state.actions == (RIGHT, RIGHT, RIGHT) and result.score == 1
    assert result.cost.policy_tokens == 15
    assert result.cost.scored_states == 4, "the two equal episodes are one candidate"
    assert result.cost.environment_steps == 8, "a shared beginning is executed once"


def test_votes_are_for_how_an_episode_ended():
    # Three episodes end with left (0, 6/7, 6/7) and two with right (1/7, 1).
    assert run(Majority(5), five_episodes()).state.actions == (LEFT, LEFT, LEFT)
    weighted = run(Weighted(5), five_episodes(), TrueValue())
    assert weighted.state.actions == (RIGHT, RIGHT, LEFT) and weighted.score == pytest.approx(6 / 7)


def test_the_gate_stops_sampling():
    result = run(BestOfN(5), five_episodes(), TrueValue(), replace(SETTINGS, gate=0.8))
    assert result.state.actions == (RIGHT, RIGHT, LEFT) and result.ended_by == "gate" and not result.cut
    assert (result.cost.policy_tokens, result.cost.scored_states) == (6, 2)


def beam_script() -> ScriptedPolicy:
    return ScriptedPolicy({(): [LEFT, RIGHT], (RIGHT,): [LEFT, LEFT], (RIGHT, LEFT): [RIGHT, LEFT]})


@pytest.mark.parametrize("made", [Beam(1, 2), Stepwise(2)])
def test_beam_by_hand(made: Strategy):
    # 1 x 2: both first actions are scored, right stays; from right only left is proposed, and so on.
    result = run(made, beam_script(), TrueValue())
    assert result.state.actions == (RIGHT, LEFT, RIGHT)
    assert result.score == pytest.approx(5 / 7)
    assert result.cost.policy_tokens == 6
    assert result.cost.scored_states == result.cost.environment_steps == 5, (
        "equal candidates are merged before they run"
    )


BEFORE = Scored.before_acting


@pytest.mark.parametrize("made", [Beam(1, 2, BEFORE), Stepwise(2, BEFORE)])
def test_what_is_not_kept_is_not_executed(made: Strategy):
    reward_model, sessions = ActionsOnly(), ToySessions()
    result = run(made, beam_script(), reward_model, sessions=sessions)
    assert result.state.actions == (RIGHT, LEFT, RIGHT) and result.finished
    assert result.score == pytest.approx(5 / 7)
    assert (result.cost.policy_tokens, result.cost.scored_states) == (6, 5)
    assert sessions.asked == [(), (RIGHT,), (RIGHT, LEFT), (RIGHT, LEFT, RIGHT)]
    assert result.cost.environment_steps == 3
    assert made.label.endswith(", before acting")


def test_before_acting_a_beam_takes_fewer_steps_by_the_branching_factor():
    # All 2 + 4 + 4 candidates are executed; before acting the two that are kept of each round.
    table = {(): [LEFT, RIGHT] * 2} | {(one,): [LEFT, RIGHT] for one in (LEFT, RIGHT)}
    table |= {(RIGHT, each): [LEFT, RIGHT] for each in (LEFT, RIGHT)}
    after, before = (
        run(Beam(2, 2, scored), ScriptedPolicy(table), TrueValue()) for scored in (Scored.after_acting, BEFORE)
    )
    assert after.state.actions == before.state.actions == (RIGHT, RIGHT, RIGHT)
    assert (after.cost.environment_steps, before.cost.environment_steps) == (10, 6)
    assert after.cost.policy_tokens == before.cost.policy_tokens == 12
    assert after.cost.scored_states == before.cost.scored_states == 10


def test_a_turn_beyond_the_budget_of_steps_is_never_the_answer():
    settings = replace(SETTINGS, max_steps=2)
    result = run(Stepwise(2, BEFORE), beam_script(), ActionsOnly(), settings)
    assert result.state.actions == (RIGHT, LEFT) and result.cut and result.ended_by == "steps"
    assert result.state.conversation().messages[-1]["role"] == "user"


def test_the_gate_is_for_what_has_been_executed():
    table = {(): [RIGHT, RIGHT], (RIGHT,): [RIGHT, LEFT], (RIGHT, RIGHT): [RIGHT, LEFT]}
    result = run(Stepwise(2, BEFORE), ScriptedPolicy(table), ActionsOnly(), replace(SETTINGS, gate=1.0))
    assert result.ended_by == "gate" and result.finished and result.state.actions == (RIGHT, RIGHT, RIGHT)


class ActionsOnly(TrueValue):
    """Knows values of actions alone, and that nothing of what follows them is shown."""

    async def score(self, states: list[State]) -> list[float]:
        for state in states:
            *_, last = state.conversation().messages
            assert last == {"role": "assistant", "content": state.actions[-1]} and not state.done
        return await super().score(states)


def test_beam_finds_the_best_leaf_when_the_reward_model_is_right():
    result = run(Beam(3, 4), EvenPolicy(), TrueValue())
    assert result.state.actions == (RIGHT, RIGHT, RIGHT) and result.finished


def test_subtrees_do_not_compete():
    # Beam 2x2 would go on with right-left (5/7) and right-right (1) alone; the left subtree ends at 2/7.
    policy = ScriptedPolicy(
        {
            (): [LEFT, RIGHT, LEFT, RIGHT],
            (LEFT,): [LEFT, RIGHT],
            (RIGHT,): [LEFT, RIGHT],
            (LEFT, RIGHT): [LEFT, LEFT],
            (RIGHT, RIGHT): [LEFT, LEFT],
        }
    )
    result = run(DVTS(2, 2), policy, TrueValue())
    assert result.state.actions == (RIGHT, RIGHT, LEFT) and result.score == pytest.approx(6 / 7)
    ends = {result.tree.actions(i) for i, node in enumerate(result.tree.nodes) if node.depth == DEPTH}
    assert ends == {(LEFT, RIGHT, LEFT), (RIGHT, RIGHT, LEFT)}
    assert (result.cost.policy_tokens, result.cost.scored_states) == (12, 8)


class SeesEndsOnly:
    """A reward model that knows nothing of unfinished states."""

    async def score(self, states: list[State]) -> list[float]:
        return [leaf_value(state.actions) if state.done else 0.0 for state in states]


class LeftIsLikely(ScriptedPolicy):
    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        if greedy:
            return [Proposal(LEFT, LEFT, logprob=-0.1, tokens=1)] * n
        return await super().propose(state, n, seed=seed)


def test_lookahead_scores_where_the_greedy_policy_leads():
    # Round 1: left leads to lll (0), right to rll (4/7). Round 2: rl is there already, rr leads to rrl (6/7).
    # Round 3: rrl is there and scored, rrr (1) is new.
    both = [LEFT, RIGHT]
    policy = LeftIsLikely({(): both, (RIGHT,): both, (RIGHT, RIGHT): both})
    result = run(Lookahead(1, 2, 2), policy, SeesEndsOnly())
    assert result.state.actions == (RIGHT, RIGHT, RIGHT) and result.score == 1
    assert (result.cost.environment_steps, result.cost.scored_states, result.cost.policy_tokens) == (9, 4, 11)


BOTH = {
    (): [LEFT, RIGHT],
    (LEFT,): [LEFT, RIGHT],
    (RIGHT,): [LEFT, RIGHT],
    (RIGHT, RIGHT): [LEFT, RIGHT],
}


def test_ucb_by_hand():
    # Values: left 3/7, right 1, then rl 5/7, rr 1. N(root) = 4; UCB(left) = 3/7 + 0.7 sqrt(2 ln 4) = 1.594 beats
    # UCB(right) = (1 + 5/7 + 1) / 3 + 0.7 sqrt(2 ln 4 / 3) = 1.578, so that iteration 3 expands left.
    result = run(GuidedMCTS(Selection.ucb, 3, 1, 2), ScriptedPolicy(BOTH), TrueValue())
    visits = {result.tree.actions(i): node.visits for i, node in enumerate(result.tree.nodes)}
    assert (visits[()], visits[(LEFT,)], visits[(RIGHT,)], visits[(LEFT, RIGHT)]) == (6, 3, 3, 1)
    assert result.tree.nodes[0].value == pytest.approx((3 + 7 + 5 + 7 + 1 + 3) / 42)
    assert result.state.actions == (RIGHT,) and not result.finished and result.ended_by == "complete"


def test_puct_by_hand():
    # As above, but PUCT(left) = 3/7 + 0.7 * 0.5 * 2 / 2 = 0.779 and PUCT(right) = 0.905 + 0.7 * 0.5 * 2 / 4 = 1.080.
    result = run(GuidedMCTS(Selection.puct, 3, 1, 2), ScriptedPolicy(BOTH), TrueValue())
    assert result.state.actions == (RIGHT, RIGHT, RIGHT) and result.finished and result.score == 1
    again = run(GuidedMCTS(Selection.puct, 50, 1, 2), ScriptedPolicy(BOTH), TrueValue(), replace(SETTINGS, gate=1.0))
    assert again.ended_by == "gate" and again.state == result.state and again.tree.iterations == 3


def test_an_exhausted_tree_ends_before_its_iterations():
    result = run(GuidedMCTS(Selection.ucb, 500, 3, 4), EvenPolicy(), TrueValue())
    assert result.tree.nodes[0].closed and result.tree.iterations < 10 and result.score == 1
    assert all(not node.busy and node.virtual == 0 for node in result.tree.nodes)


def test_a_cut_search_says_that_it_did_not_finish():
    result = run(Beam(2, 2), EvenPolicy(), TrueValue(), replace(SETTINGS, max_depth=2))
    assert not result.finished and len(result.state.steps) == 2 and not result.cut


def test_baselines():
    async def two() -> list[State]:
        explored = await Exploration.begin(TASK, EvenPolicy(), ToySessions(), None, SETTINGS, BARE)
        return [explored.tree.state(end) for end in await sample(explored, 2)]

    states = asyncio.run(two())
    assert asyncio.run(ShortestFirst().score(states)) == [-3, -3]
    first, again = (asyncio.run(RandomScores(1).score(states)) for _ in range(2))
    assert first == again and all(0 <= score < 1 for score in first)
    assert asyncio.run(RandomScores(2).score(states)) != first


def test_every_method_has_a_name_of_its_own():
    labels = [strategy(method, SETTINGS).label for method in Method]
    labels += [strategy(each, replace(SETTINGS, score=BEFORE)).label for each in (Method.beam, Method.stepwise)]
    assert len(set(labels)) == len(labels)


def test_no_strategy_holds_a_grader():
    made = [strategy(method, replace(SETTINGS, score=scored)) for method in Method for scored in Scored]
    held = [search, Exploration.__init__, Exploration.begin, *(type(each).choose for each in made)]
    for callable_ in held:
        assert Grader not in typing.get_type_hints(callable_).values(), callable_
    for round_ in (Exploration.expand, Exploration.propose, Exploration.execute, Exploration.score):
        assert not set(typing.get_type_hints(round_).values()) & {Grader, Grade}, round_
    for protocol in (Policy, RewardModel, Sessions, Exploration):
        assert not [name for name, _ in inspect.getmembers(protocol) if "grade" in name or "outcome" in name]

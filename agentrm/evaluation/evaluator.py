"""All methods of an evaluation on one task: searches that never see the true reward, and the baselines beside them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from statistics import fmean
from typing import Any

from agentrm.config.schema import Aggregate, Baseline, Evaluate, Method
from agentrm.core.protocols import Grader, Policy, RewardModel, Sessions
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.evaluation.metrics import (
    BASELINE,
    CEILING,
    LIKELIEST,
    LOG_PROBABILITY,
    MAJORITY,
    RANDOM,
    SHORTEST,
    VERDICTS,
)
from agentrm.models.baselines import PolicyLikelihood, RandomScores, ShortestFirst
from agentrm.models.judge import Completer, Judge
from agentrm.search.best_of_n import BestOfN, JudgedBestOfN
from agentrm.search.episode import Opening
from agentrm.search.exploration import Exploration
from agentrm.search.greedy import Greedy
from agentrm.search.methods import conditions, strategy, unlimited
from agentrm.search.result import Cost
from agentrm.search.sampling import sample
from agentrm.search.shared import SharedPolicy
from agentrm.search.strategy import Strategy, search
from agentrm.search.voting import Majority

Row = dict[str, Any]
Rows = dict[str, Row]
"""By method, for one task."""


def methods(settings: Evaluate) -> list[str]:
    """The rows of the table: the searches and the baselines that were asked for."""
    searches = {label: made for label, (made, _) in _asked_for(settings).items()}
    greedy = [label for label, made in searches.items() if isinstance(made, Greedy)]
    whole = [label for label, made in searches.items() if not made.guided and label not in greedy]
    guided = [label for label, made in searches.items() if made.guided]
    beside = settings.baselines
    steered = []
    for label in guided:
        steered += [label, *(label + suffix for baseline, suffix in _UNTRAINED.items() if baseline in beside)]
        steered += [_equal(label)] if settings.equal_tokens else []
    sampled = [BASELINE] if Baseline.sample in beside or Method.sample in settings.methods else []
    plain = [name(settings) for baseline, name in _OF_N.items() if baseline in beside]
    return [*greedy, *sampled, *whole, *(label for label in plain if label not in whole), *steered]


def _asked_for(settings: Evaluate) -> dict[str, tuple[Strategy, Evaluate]]:
    """The searches by label, without one sample, which is a baseline; a greedy episode and a judge know no budget."""
    strategies = [strategy(method, settings) for method in settings.methods if method is not Method.sample]
    plain, free = _plain(settings), (Greedy, JudgedBestOfN)
    return {
        **{made.label: (made, plain) for made in strategies if isinstance(made, free)},
        **{made.label + conditions(settings): (made, settings) for made in strategies if not isinstance(made, free)},
    }


def _plain(settings: Evaluate) -> Evaluate:
    return replace(unlimited(settings), aggregate=Aggregate.last)


def _equal(label: str) -> str:
    return f"best of N, tokens of {label}"


def _shortest(settings: Evaluate) -> str:
    return f"{SHORTEST} {settings.n}"


def _likeliest(settings: Evaluate) -> str:
    return f"{LIKELIEST} {settings.n}"


def _majority(settings: Evaluate) -> str:
    return f"{MAJORITY} {settings.n}"


def _ceiling(settings: Evaluate) -> str:
    return f"{CEILING} {settings.n}"


_OF_N = {
    Baseline.shortest: _shortest,
    Baseline.likeliest: _likeliest,
    Baseline.majority: _majority,
    Baseline.oracle: _ceiling,
}
_UNTRAINED = {Baseline.random: RANDOM, Baseline.log_probability: LOG_PROBABILITY}


class Evaluator:
    """All methods on one task. The searches get the policy, the sessions and a scorer; the grader stays here.

    `seed` is that of the random scores. No `reward_model` is needed unless a method is `scored`.
    """

    def __init__(
        self,
        settings: Evaluate,
        opening: Opening,
        seed: int,
        policy: Policy,
        sessions: Sessions,
        grader: Grader,
        reward_model: RewardModel | None,
        judge: Completer,
    ) -> None:
        self._settings = settings
        self._plain = _plain(settings)
        self._opening = opening
        self._policy = policy
        self._sessions = sessions
        self._grader = grader
        self._reward_model = reward_model
        self._judge = judge
        whole, likelihood = BestOfN(settings.n), PolicyLikelihood()
        self._searches: dict[str, tuple[Strategy, RewardModel | None, Evaluate]] = {
            _shortest(settings): (whole, ShortestFirst(), self._plain),
            _likeliest(settings): (whole, likelihood, self._plain),
            # It compares how episodes ended, and scores none.
            _majority(settings): (Majority(settings.n), likelihood, self._plain),
        }
        for label, (made, limits) in _asked_for(settings).items():
            self._searches[label] = made, reward_model, limits
            if made.guided:
                self._searches[label + RANDOM] = made, RandomScores(seed), limits
                self._searches[label + LOG_PROBABILITY] = made, likelihood, limits

    async def rows(self, group: str, task: Task, stored: Rows) -> Rows:
        """Those that are stored, and the missing ones. Raises EnvironmentFailure."""
        policy = SharedPolicy(self._policy)
        missing = [label for label in methods(self._settings) if label not in stored]
        work = [self._searched(label, task, policy) for label in missing if label in self._searches]
        if {BASELINE, _ceiling(self._settings)} & set(missing):
            work.append(self._sampled(task, policy))
        shared = {
            "group": group,
            "environment": task.environment,
            "kind": task.kind,
            "task": task.id,
            "error": "",
            **dict.fromkeys(VERDICTS),
        }
        fresh = [row for rows in await asyncio.gather(*work) for row in rows if row["method"] in missing]
        by_method = stored | {row["method"]: shared | row for row in fresh}
        equal = {_equal(label): row for label, row in by_method.items() if _equal(label) in missing}
        for label, row in equal.items():
            by_method[label] = shared | await self._best_of_tokens(label, task, policy, int(row["policy_tokens"]))
        return by_method

    async def _searched(self, label: str, task: Task, policy: Policy) -> list[Row]:
        made, reward_model, settings = self._searches[label]
        # One for each task, as it counts what it was asked.
        judge = Judge(self._judge, self._settings.judge.compare) if isinstance(made, JudgedBestOfN) else None
        result = await search(made, task, policy, self._sessions, judge or reward_model, settings, self._opening)
        row = await self._row(label, result.state, result.cost, result.cut, result.tree)
        return [row | (asdict(judge.verdicts) if judge else {})]

    async def _best_of_tokens(self, label: str, task: Task, policy: Policy, tokens: int) -> Row:
        """Best-of-N with as many episodes as the tokens pay for."""
        made, settings = BestOfN(max(tokens, 1)), replace(self._plain, max_tokens=max(tokens, 1))
        result = await search(made, task, policy, self._sessions, self._reward_model, settings, self._opening)
        return await self._row(label, result.state, result.cost, cut=False, tree=result.tree)

    async def _sampled(self, task: Task, policy: Policy) -> list[Row]:
        """N whole episodes: what one of them is worth, and the best by the true reward."""
        n = self._settings.n
        explored = await Exploration.begin(task, policy, self._sessions, None, self._plain, self._opening)
        ends = await sample(explored, n)
        whole = explored.result(ends[0]).cost
        rows = []
        for state in map(explored.tree.state, ends):
            tokens = sum(step.proposal.tokens for step in state.steps)
            cost = Cost(tokens, environment_steps=len(state.steps), seconds=whole.seconds)
            rows.append(await self._row(BASELINE, state, cost, cut=False, tree=explored.tree))
        mean = {key: fmean(row[key] for row in rows) for key in rows[0] if key != "method"}
        best = max(range(n), key=lambda number: rows[number]["outcome"])
        chosen = explored.tree.state(ends[best])
        ceiling = await self._row(_ceiling(self._settings), chosen, whole, cut=False, tree=explored.tree)
        return [mean | {"method": BASELINE}, ceiling]

    async def _row(self, method: str, state: State, cost: Cost, cut: bool, tree: Tree) -> Row:
        grade = await self._grader.grade(state.task, state.actions)
        return {
            "method": method,
            "outcome": grade.outcome,
            "progress": grade.progress,
            "success": float(grade.success),
            "finished": float(state.done),
            "cut": float(cut),
            "steps": float(len(state.steps)),
            "refusals": float(tree.engine_errors),
            **{name: float(value) for name, value in asdict(cost).items()},
        }

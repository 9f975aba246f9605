"""Evaluation: tasks x test-time searches, with the reward model behind Ray Serve, into a table, plots and a report.

    python -m jobs.evaluate --preset quickstart evaluate.n=5

The searches never see the true reward; it is read once an episode has been chosen. Finished tasks outlive a crash.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, replace
from statistics import fmean
from typing import Any

import pyarrow as pa
from rich.console import Console

from actors.environments import RemoteGrader, RemoteSessions, start_environments
from actors.policy import connect_judge, connect_policy, start_policy
from actors.scaling import scaled
from actors.serving import connect_reward_model, deployed
from agentrm import storage
from agentrm.config.schema import Aggregate, Config, Evaluate, Method
from agentrm.config.tasks import tasks
from agentrm.core.errors import EnvironmentFailure, ModelError, ModelUnavailable, reason
from agentrm.core.protocols import Grader, Policy, RewardModel, Sessions
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.evaluation.metrics import (
    BASELINE,
    CEILING,
    COSTS,
    LIKELIEST,
    LOG_PROBABILITY,
    RANDOM,
    SHORTEST,
    VERDICTS,
)
from agentrm.failures import Failures
from agentrm.models.baselines import PolicyLikelihood, RandomScores, ShortestFirst
from agentrm.models.judge import Completer, Judge
from agentrm.reports.report import write_report
from agentrm.run import RunDirectory
from agentrm.search.best_of_n import BestOfN, JudgedBestOfN
from agentrm.search.episode import Opening
from agentrm.search.exploration import Exploration
from agentrm.search.greedy import Greedy
from agentrm.search.methods import conditions, strategy, unlimited
from agentrm.search.result import Cost
from agentrm.search.sampling import sample
from agentrm.search.shared import SharedPolicy
from agentrm.search.strategy import Strategy, search
from jobs.runtime import cluster, main, progress
from jobs.terminal.tables import print_results

Row = dict[str, Any]
Rows = dict[str, Row]
"""By method, for one task."""


def run(config: Config) -> dict[str, Any]:
    """Run every method on every task where it has no result yet, then write the report and show its table."""
    directory = RunDirectory.open(config)
    if not directory.finished("evaluation"):
        _run(config, directory)
    metrics = directory.metrics("evaluate")
    print_results(metrics, Console())
    print(f"report: {directory.at('evaluation/report.html')}")
    return metrics


def _run(config: Config, directory: RunDirectory) -> None:
    policy = directory.require("policy", "clone")
    reward_model = directory.require("reward_model", "train")
    directory.record_data()
    groups = {
        "held-in": config.tasks.held_in,
        "held-out kinds": config.tasks.held_out_kinds,
        "held-out environments": config.tasks.held_out_environments,
    }
    todo = [(group, task) for group, sets in groups.items() for task in tasks(sets, config.tasks.seed)]
    done = directory.work("evaluation")
    labels = methods(config.evaluate)
    failures = Failures(directory.work("failures/evaluation"))
    missing = [
        (group, task)
        for group, task in todo
        if task.id not in failures.given_up and not set(labels) <= set(_stored(done, task))
    ]
    if missing:
        with (
            cluster(config),
            start_policy(config, policy) as replicas,
            start_environments(config) as hosts,
            deployed(config, reward_model, http=False) as scorers,
        ):
            generator = connect_policy(config, policy, replicas)
            scorer = connect_reward_model(config, scorers)
            judge = connect_judge(config, policy, replicas)
            evaluator = Evaluator(config, generator, RemoteSessions(hosts), RemoteGrader(hosts), scorer, judge)

            async def work() -> None:
                async with scaled({replicas: None, hosts: None}):
                    await evaluate(evaluator, missing, done, failures, config.evaluate.concurrency)

            asyncio.run(work())
    if failures.given_up:
        print(failures.told(), file=sys.stderr)
    rows = table_rows(todo, labels, done, failures.given_up)
    with directory.writing("evaluation") as output:
        metrics = write_report(pa.Table.from_pylist(rows), output, config, directory)
        directory.write_metrics("evaluate", metrics)


def methods(settings: Evaluate) -> list[str]:
    """The rows of the table: the searches that were asked for, and the baselines that are always there."""
    found = {label: made for label, (made, _) in _asked_for(settings).items()}
    greedy = [label for label, made in found.items() if isinstance(made, Greedy)]
    whole = [label for label, made in found.items() if not made.guided and label not in greedy]
    guided = [label for label, made in found.items() if made.guided]
    steered = []
    for label in guided:
        steered += [label, label + RANDOM, label + LOG_PROBABILITY]
        steered += [_equal(label)] if settings.equal_tokens else []
    return [*greedy, BASELINE, *whole, _shortest(settings), _likeliest(settings), _ceiling(settings), *steered]


def _asked_for(settings: Evaluate) -> dict[str, tuple[Strategy, Evaluate]]:
    """The searches by label, without one sample, which is a baseline; a greedy episode and a judge know no budget."""
    found = [strategy(method, settings) for method in settings.methods if method is not Method.sample]
    plain, free = _plain(settings), (Greedy, JudgedBestOfN)
    return {
        **{made.label: (made, plain) for made in found if isinstance(made, free)},
        **{made.label + conditions(settings): (made, settings) for made in found if not isinstance(made, free)},
    }


def _plain(settings: Evaluate) -> Evaluate:
    return replace(unlimited(settings), aggregate=Aggregate.last)


def _equal(label: str) -> str:
    return f"best of N, tokens of {label}"


def _shortest(settings: Evaluate) -> str:
    return f"{SHORTEST} {settings.n}"


def _likeliest(settings: Evaluate) -> str:
    return f"{LIKELIEST} {settings.n}"


def _ceiling(settings: Evaluate) -> str:
    return f"{CEILING} {settings.n}"


class Evaluator:
    """All methods on one task. The searches get the policy, the sessions and a scorer; the grader stays here."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        sessions: Sessions,
        grader: Grader,
        reward_model: RewardModel,
        judge: Completer,
    ) -> None:
        self._settings = config.evaluate
        self._plain = _plain(config.evaluate)
        self._opening = Opening(config.model.instructions, config.model.action_format)
        self._policy = policy
        self._sessions = sessions
        self._grader = grader
        self._reward_model = reward_model
        self._judge = judge
        whole, likelihood = BestOfN(config.evaluate.n), PolicyLikelihood()
        self._searches: dict[str, tuple[Strategy, RewardModel, Evaluate]] = {
            _shortest(config.evaluate): (whole, ShortestFirst(), self._plain),
            _likeliest(config.evaluate): (whole, likelihood, self._plain),
        }
        for label, (made, settings) in _asked_for(config.evaluate).items():
            self._searches[label] = made, reward_model, settings
            if made.guided:
                self._searches[label + RANDOM] = made, RandomScores(config.seed), settings
                self._searches[label + LOG_PROBABILITY] = made, likelihood, settings

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
        found = stored | {row["method"]: shared | row for rows in await asyncio.gather(*work) for row in rows}
        equal = {_equal(label): row for label, row in found.items() if _equal(label) in missing}
        for label, row in equal.items():
            found[label] = shared | await self._best_of_tokens(label, task, policy, int(row["policy_tokens"]))
        return found

    async def _searched(self, label: str, task: Task, policy: Policy) -> list[Row]:
        made, reward_model, settings = self._searches[label]
        # One for each task, as it counts what it was asked.
        judge = Judge(self._judge, "listwise") if isinstance(made, JudgedBestOfN) else None
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


async def evaluate(
    evaluator: Evaluator, todo: list[tuple[str, Task]], done: str, failures: Failures, concurrency: int
) -> None:
    """Write `<task id>.json` for every task; one whose environment failed is tried again once the others are done, as
    often as `failures` has it. Raises EnvironmentFailure where not one task had a result: then none is counted; raises
    ModelUnavailable at once, and ModelError in the end for tasks that a model failed, which the next run tries again.
    """
    lanes = asyncio.Semaphore(concurrency)
    failed: dict[Task, str] = {}
    unanswered: list[ModelError] = []

    async def one(group: str, task: Task) -> None:
        async with lanes:
            try:
                rows = await evaluator.rows(group, task, _stored(done, task))
            except ModelUnavailable:
                raise
            except ModelError as error:
                unanswered.append(error)
                return
            except EnvironmentFailure as error:
                failed[task] = str(error)
                return
        await asyncio.to_thread(storage.write_text, _file(done, task), json.dumps(list(rows.values())))
        bar.advance(1)

    with progress("tasks", len(todo), lanes=concurrency) as bar:
        while todo:
            failed.clear()
            await asyncio.gather(*(one(group, task) for group, task in todo))
            if len(failed) == len(todo) and not storage.names(done):
                first = next(iter(failed.values()))
                raise EnvironmentFailure(f"all {len(failed)} tasks failed in their environment: {first}")
            for task, error in failed.items():
                failures.record(task, error)
            todo = [(group, task) for group, task in todo if task in failed and task.id not in failures.given_up]
    if unanswered:
        raise ModelError(f"{len(unanswered)} tasks failed for a model; run again to retry: {reason(unanswered[0])}")


def table_rows(todo: list[tuple[str, Task]], labels: list[str], done: str, given_up: dict[str, str]) -> list[Row]:
    """A row for each task and method; the `error` alone where the environment failed."""
    found = [(group, task, _stored(done, task)) for group, task in todo]
    complete = [rows for _, _, rows in found if set(labels) <= set(rows)]
    empty: Row = dict.fromkeys(complete[0][labels[0]]) if complete else {}
    rows = []
    for group, task, stored in found:
        if set(labels) <= set(stored):
            rows += [stored[label] for label in labels]
            continue
        shared = {"group": group, "environment": task.environment, "kind": task.kind, "task": task.id}
        rows += [empty | shared | {"method": label, "error": given_up[task.id]} for label in labels]
    return rows


def _stored(done: str, task: Task) -> Rows:
    """What earlier runs have found on a task; rows of an older version that lack a cost are not there."""
    rows = json.loads(storage.read_text(_file(done, task)) or "[]")
    return {row["method"]: row for row in rows if row.keys() >= set(COSTS)}


def _file(done: str, task: Task) -> str:
    return f"{done}/{task.id}.json"


if __name__ == "__main__":
    main(run)

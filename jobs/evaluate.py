"""Evaluation: tasks x test-time searches, with the reward model behind Ray Serve where one of them needs it, into a
table, plots and a report.

    python -m jobs.evaluate --preset quickstart evaluate.n=5

The searches never see the true reward; it is read once an episode has been chosen. Finished tasks outlive a crash.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from typing import Any

from rich.console import Console

from actors.environments import start_environments
from actors.fleet import Fleet
from actors.policy import start_judge, start_policy
from actors.scaling import scaled
from actors.searcher import Asked, start_searchers
from actors.serving import deployed
from actors.workers import Workers
from agentrm import storage
from agentrm.config.schema import Config, Method, Scored
from agentrm.config.tasks import tasks
from agentrm.core.errors import ModelError, UserError, reason
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import methods
from agentrm.evaluation.results import Results
from agentrm.failures import Failures
from agentrm.models.scorers import check_actions
from agentrm.reports.report import context_notes, write_report
from agentrm.run import RunDirectory
from jobs.attempts import Advance, Do, attempts
from jobs.runtime import cluster, main, progress
from jobs.terminal.tables import print_results

Work = tuple[Task, str]
"""A task and its group."""


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
    reward_model = reward_model_for(directory, config.evaluate.methods)
    directory.record_data()
    todo = test_tasks(config)
    results = Results(directory.work("evaluation"), methods(config.evaluate))
    failures = Failures(directory.work("failures/evaluation"))
    missing = undone(todo, results, failures)
    if missing:
        with (
            cluster(config),
            start_judge(config) as judges,
            start_policy(config, policy) as replicas,
            start_environments(config) as hosts,
            deployed(config, reward_model, http=False) if reward_model else nullcontext() as scorers,
            start_searchers(
                config, Asked.of(config, policy, replicas, judges, hosts, scorers), results.location
            ) as searchers,
        ):
            asyncio.run(_search(config, searchers, (replicas, judges, hosts), missing, results, failures))
    if failures.given_up:
        print(failures.told(), file=sys.stderr)
    table = results.table(todo, failures.given_up)
    with directory.writing("evaluation") as output:
        metrics = write_report(table, output, config, directory)
        directory.write_metrics("evaluate", metrics)
    for note in context_notes(table.to_pandas()):
        print(note, file=sys.stderr)


def test_tasks(config: Config) -> list[Work]:
    """All that methods are compared on."""
    groups = {
        "held-in": config.tasks.held_in,
        "held-out kinds": config.tasks.held_out_kinds,
        "held-out environments": config.tasks.held_out_environments,
    }
    return [(task, group) for group, sets in groups.items() for task in tasks(sets, config.tasks.seed)]


def reward_model_for(directory: RunDirectory, methods: Sequence[Method]) -> str | None:
    """The location of a run's reward model, None where no method needs it. Raises UserError where one does and there is
    none, or none for `evaluate.score`.
    """
    scored = [method for method in methods if method.scored]
    if not scored:
        return None
    if not directory.finished("reward_model"):
        named = ", ".join(method.value for method in scored)
        untrained = ", ".join(method.value for method in Method if not method.scored)
        raise UserError(
            f"{directory.at('reward_model')} is not there, by which {named} of evaluate.methods would choose: run "
            f"`agentrm train` first, or evaluate without one by evaluate.methods=[...] among {untrained}"
        )
    location = directory.at("reward_model")
    if directory.config.evaluate.score is Scored.before_acting:
        check_actions(storage.fetch(location))
    return location


def undone(todo: Sequence[Work], results: Results, failures: Failures) -> list[Work]:
    """What has no whole result and is not given up, `in_turn`."""
    return results.missing(in_turn([work for work in todo if work[0].id not in failures.given_up]))


def in_turn(todo: Sequence[Work]) -> list[Work]:
    """A task of each group after another: what is left at any time is like what was done, so that its time is too."""
    groups: dict[str, list[Work]] = {}
    for work in todo:
        groups.setdefault(work[1], []).append(work)
    return [work for row in zip_longest(*groups.values()) for work in row if work is not None]


async def _search(
    config: Config,
    fleet: Fleet,
    asked: Sequence[Fleet],
    todo: Sequence[Work],
    results: Results,
    failures: Failures,
) -> None:
    lanes = config.evaluate.concurrency
    searchers = Workers(fleet, lanes)
    most = max(config.evaluate.searchers, config.evaluate.max_searchers or 0)
    async with scaled({fleet: searchers.load, **dict.fromkeys(asked)}, lambda: searchers.tell(*asked)):
        await evaluate(todo, searchers.work, lanes * most, results, failures)


async def evaluate(todo: Sequence[Work], do: Do[str], lanes: int, results: Results, failures: Failures) -> None:
    """`attempts` of all tasks. Raises as that, and ModelError in the end for tasks that a model failed, which the next
    run tries again.
    """
    _, unanswered = await attempts(todo, do, lanes, results, failures, lambda todo: searching(todo, lanes))
    if unanswered:
        raise ModelError(f"{len(unanswered)} tasks failed for a model; run again to retry: {reason(unanswered[0])}")


@contextmanager
def searching(todo: Sequence[Work], lanes: int) -> Iterator[Advance[str]]:
    """Show how tasks are searched, `lanes` of them at a time."""
    with progress("tasks", len(todo), lanes=lanes) as bar:
        yield lambda group, total: bar.advance(searches=int(total["searches"]))


if __name__ == "__main__":
    main(run)

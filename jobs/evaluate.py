"""Evaluation: tasks x test-time searches, with the reward model behind Ray Serve, into a table, plots and a report.

    python -m jobs.evaluate --preset quickstart evaluate.n=5

The searches never see the true reward; it is read once an episode has been chosen. Finished tasks outlive a crash.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import zip_longest
from typing import Any

import pyarrow as pa
from rich.console import Console

from actors.environments import RemoteGrader, RemoteSessions, start_environments
from actors.policy import connect_judge, connect_policy, start_policy
from actors.scaling import scaled
from actors.serving import connect_reward_model, deployed
from agentrm import storage
from agentrm.config.schema import Config
from agentrm.config.tasks import tasks
from agentrm.core.errors import EnvironmentFailure, ModelError, ModelUnavailable, reason
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import Evaluator, Row, Rows, methods
from agentrm.evaluation.metrics import (
    COSTS,
)
from agentrm.failures import Failures
from agentrm.reports.report import write_report
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main, progress
from jobs.terminal.tables import print_results


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
    missing = in_turn(
        [
            (group, task)
            for group, task in todo
            if task.id not in failures.given_up and not set(labels) <= set(_stored(done, task))
        ]
    )
    if missing:
        with (
            cluster(config),
            start_policy(config, policy) as replicas,
            start_environments(config) as hosts,
            deployed(config, reward_model, http=False) as scorers,
        ):
            generator = connect_policy(config.model, config.sampling, config.seed, policy, replicas)
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


def in_turn(todo: list[tuple[str, Task]]) -> list[tuple[str, Task]]:
    """A task of each group after another: what is left at any time is like what was done, so that its time is too."""
    groups: dict[str, list[tuple[str, Task]]] = {}
    for each in todo:
        groups.setdefault(each[0], []).append(each)
    return [each for row in zip_longest(*groups.values()) for each in row if each is not None]


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

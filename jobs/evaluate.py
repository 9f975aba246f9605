"""Evaluation: tasks x test-time searches, with the reward model behind Ray Serve, into a table, plots and a report.

    python -m jobs.evaluate --preset quickstart evaluate.n=5

The searches never see the true reward; it is read once an episode has been chosen. Finished tasks outlive a crash.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
from rich.console import Console

from actors.environments import RemoteGrader, RemoteSessions, start_environments
from actors.policy import connect_policy, start_policy
from actors.serving import ServedRewardModel, deployed
from agentrm.config import tasks
from agentrm.config.schema import Config
from agentrm.environments.base import Task
from agentrm.errors import EnvironmentFailure
from agentrm.evaluation.report import print_results, write_report
from agentrm.models.base import Grader, Policy, RewardModel, Sessions
from agentrm.models.reward import RandomScores, ShortestFirst
from agentrm.run import RunDirectory
from agentrm.search.beam import beam_search
from agentrm.search.best_of_n import best_of, sample
from agentrm.search.episode import Opening
from agentrm.search.greedy import greedy
from agentrm.search.result import Result
from jobs.runtime import cluster, main, progress

Row = dict[str, Any]


def run(config: Config) -> dict[str, Any]:
    """Run every method on every task that has no result yet, then write the report and show its table."""
    directory = RunDirectory.open(config)
    if not directory.finished("evaluation"):
        _run(config, directory)
    metrics = directory.metrics("evaluate")
    print_results(metrics, Console())
    print(f"report: {directory.path('evaluation') / 'report.html'}")
    return metrics


def _run(config: Config, directory: RunDirectory) -> None:
    policy = directory.require("policy", "clone")
    reward_model = directory.require("reward_model", "train")
    groups = {
        "held-in": config.tasks.held_in,
        "held-out kinds": config.tasks.held_out_kinds,
        "held-out environments": config.tasks.held_out_environments,
    }
    todo = [(group, task) for group, sets in groups.items() for task in tasks(sets, config.tasks.seed)]
    done = directory.work("evaluation")
    missing = [(group, task) for group, task in todo if not (done / f"{task.id}.json").exists()]
    if missing:
        with (
            cluster(config),
            start_policy(config, policy) as replicas,
            start_environments(config) as hosts,
            deployed(config, reward_model, http=False) as handle,
        ):
            generator, scorer = connect_policy(config, policy, replicas), ServedRewardModel(handle)
            evaluator = Evaluator(config, generator, RemoteSessions(hosts), RemoteGrader(hosts), scorer)
            asyncio.run(_evaluate(evaluator, missing, done, config.evaluate.concurrency))
    rows = [row for _, task in todo for row in json.loads((done / f"{task.id}.json").read_text())]
    with directory.writing("evaluation") as output:
        metrics = write_report(pa.Table.from_pylist(rows), output, config, directory)
        directory.write_metrics("evaluate", metrics)


class Evaluator:
    """All methods on one task. The searches get the policy, the sessions and a scorer; the grader stays here."""

    def __init__(
        self, config: Config, policy: Policy, sessions: Sessions, grader: Grader, reward_model: RewardModel
    ) -> None:
        self._settings = config.evaluate
        self._limits: dict[str, Any] = {
            "max_depth": config.evaluate.max_depth,
            "opening": Opening(config.model.instructions, config.model.action_format),
        }
        self._policy = policy
        self._sessions = sessions
        self._grader = grader
        self._reward_model = reward_model
        self._random = RandomScores(config.seed)

    async def rows(self, group: str, task: Task) -> list[Row]:
        """One row per method. Raises EnvironmentFailure."""
        parts = await asyncio.gather(
            self._greedy(task),
            self._sampled(task),
            self._beam(task, self._reward_model, ""),
            self._beam(task, self._random, ", random scores"),
        )
        shared = {"group": group, "environment": task.environment, "kind": task.kind, "task": task.id, "error": ""}
        return [shared | row for part in parts for row in part]

    async def _greedy(self, task: Task) -> list[Row]:
        result = await greedy(task, self._policy, self._sessions, **self._limits)
        return [await self._row("greedy", task, result)]

    async def _sampled(self, task: Task) -> list[Row]:
        n = self._settings.n
        candidates = await sample(task, self._policy, self._sessions, n, **self._limits)
        rows = [await self._row("", task, candidate) for candidate in candidates]
        mean = {key: fmean(row[key] for row in rows) for key in rows[0] if key != "method"}
        best = await self._row(f"best of {n}", task, await best_of(candidates, self._reward_model))
        shortest = await self._row(f"shortest of {n}", task, await best_of(candidates, ShortestFirst()))
        oracle = max(rows, key=lambda row: row["outcome"])
        return [
            mean | {"method": "sampled mean"},
            best,
            shortest,
            best | {key: oracle[key] for key in ("outcome", "progress", "success")} | {"method": f"oracle best of {n}"},
        ]

    async def _beam(self, task: Task, reward_model: RewardModel, suffix: str) -> list[Row]:
        width, branches = self._settings.width, self._settings.branches
        result = await beam_search(task, self._policy, self._sessions, reward_model, width, branches, **self._limits)
        return [await self._row(f"beam {width}x{branches}{suffix}", task, result)]

    async def _row(self, method: str, task: Task, result: Result) -> Row:
        grade = await self._grader.grade(task, result.state.actions)
        return {
            "method": method,
            "outcome": grade.outcome,
            "progress": grade.progress,
            "success": float(grade.success),
            "finished": float(result.finished),
            "steps": float(len(result.state.steps)),
            "policy_tokens": float(result.cost.policy_tokens),
            "scored_states": float(result.cost.scored_states),
            "environment_steps": float(result.cost.environment_steps),
            "seconds": result.cost.seconds,
        }


async def _evaluate(evaluator: Evaluator, todo: list[tuple[str, Task]], done: Path, concurrency: int) -> None:
    """Write `<task id>.json` for every task; a task whose environment failed is retried by the next run."""
    lanes = asyncio.Semaphore(concurrency)
    failed: list[str] = []

    async def one(group: str, task: Task) -> None:
        async with lanes:
            try:
                rows = await evaluator.rows(group, task)
            except EnvironmentFailure as error:
                failed.append(str(error))
                return
        temporary = done / f".{task.id}.writing"
        temporary.write_text(json.dumps(rows))
        temporary.rename(done / f"{task.id}.json")
        bar.advance(1)

    with progress("tasks", len(todo)) as bar:
        await asyncio.gather(*(one(group, task) for group, task in todo))
    if failed:
        raise EnvironmentFailure(f"{len(failed)} tasks failed in their environment; run again to retry: {failed[0]}")


if __name__ == "__main__":
    main(run)

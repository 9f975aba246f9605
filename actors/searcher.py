"""Searchers: workers that run every test-time search of an evaluation on tasks and commit the rows of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import ray

from actors.environments import RemoteGrader, RemoteSessions
from actors.fleet import Fleet, Size
from actors.policy import connect_judge, connect_policy
from actors.serving import ScoringService, connect_reward_model
from actors.workers import Worker, settle
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Engine, Evaluate, Model, Sampling
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import Evaluator, methods
from agentrm.evaluation.results import Results
from agentrm.search.episode import Opening


class TaskSearcher(Worker):
    """Finds what tasks lack in `results`; `fleets` as `Worker`'s."""

    def __init__(self, evaluator: Evaluator, results: Results, fleets: Sequence[Fleet] = ()) -> None:
        super().__init__(fleets)
        self._evaluator = evaluator
        self._results = results

    async def _pieces(self, task: Task, what: str) -> AsyncIterator[dict[str, float]]:
        """The missing rows of a task of the group `what`, all at once."""
        stored = await asyncio.to_thread(self._results.rows, task)
        rows = await self._evaluator.rows(what, task, stored)
        await asyncio.to_thread(self._results.write, task, rows)
        found = [row for method, row in rows.items() if method not in stored]
        yield {"tasks": 1, "searches": len(found), "tokens": sum(row["policy_tokens"] for row in found)}


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Searcher(TaskSearcher):
    """A `TaskSearcher` on a CPU core of its own, over policy replicas, environment hosts and, where a method is scored,
    the scoring service and its engine.
    """

    def __init__(
        self,
        settings: Evaluate,
        model: Model,
        sampling: Sampling,
        seed: int,
        policy_directory: str,
        results: str,
        policy: Fleet,
        judges: Fleet,
        environments: Fleet,
        scorers: ScoringService | None,
        engine: Engine,
    ) -> None:
        settle()
        evaluator = Evaluator(
            settings,
            Opening.of(model),
            seed,
            connect_policy(model, sampling, seed, policy_directory, policy),
            RemoteSessions(environments),
            RemoteGrader(environments),
            connect_reward_model(scorers, engine, settings.likelihood) if scorers else None,
            connect_judge(settings.judge, model, sampling, policy_directory, policy, judges),
        )
        super().__init__(evaluator, Results(results, methods(settings)), (policy, judges, environments))


def start_searchers(
    config: Config,
    policy_directory: str,
    results: str,
    policy: Fleet,
    judges: Fleet,
    environments: Fleet,
    scorers: ScoringService | None,
) -> Fleet:
    """Start `evaluate.searchers` searchers over started replicas, judges and hosts, and what `deployed` yields (None:
    no method is scored).
    """
    settings = config.evaluate
    size = Size.of(settings.searchers, settings.max_searchers, settings.concurrency)
    parts = settings, config.model, config.sampling, config.seed
    arguments = (*parts, policy_directory, results, policy, judges, environments, scorers, config.reward_engine)
    return Fleet.start(Searcher, size, actor_options(config, Role.environments), *arguments)

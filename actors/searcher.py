"""Searchers: workers that run every test-time search of an evaluation on tasks and commit the rows of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import ray

from actors.environments import RemoteGrader, RemoteSessions
from actors.fleet import Fleet, Size
from actors.policy import connect_judge, connect_policy
from actors.serving import ScoringService, connect_reward_model
from actors.workers import Worker, settle
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Engine, Evaluate, Method, Model, Sampling
from agentrm.core.protocols import Policy, RewardModel
from agentrm.core.task import Grade, Task
from agentrm.evaluation.evaluator import Evaluator, methods
from agentrm.evaluation.results import Results
from agentrm.models.judge import Completer, Judge
from agentrm.search.episode import Opening
from agentrm.search.methods import strategy
from agentrm.search.result import Result, Round
from agentrm.search.strategy import search


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
        fresh = [row for method, row in rows.items() if method not in stored]
        yield {"tasks": 1, "searches": len(fresh), "tokens": sum(row["policy_tokens"] for row in fresh)}


@dataclass(frozen=True, slots=True)
class Asked:
    """What searches ask and how they are run, as an actor gets it: over started replicas, judges and hosts, and what
    `deployed` yields (None: no method is scored) on replicas of `engine`.
    """

    settings: Evaluate
    model: Model
    sampling: Sampling
    seed: int
    policy_directory: str
    replicas: Fleet
    judges: Fleet
    hosts: Fleet
    scorers: ScoringService | None
    engine: Engine

    @classmethod
    def of(
        cls,
        config: Config,
        policy_directory: str,
        replicas: Fleet,
        judges: Fleet,
        hosts: Fleet,
        scorers: ScoringService | None,
    ) -> Asked:
        """As a run's configuration has it."""
        parts = config.evaluate, config.model, config.sampling, config.seed
        return cls(*parts, policy_directory, replicas, judges, hosts, scorers, config.reward_engine)

    @property
    def fleets(self) -> tuple[Fleet, Fleet, Fleet]:
        """Those whose members come and go."""
        return self.replicas, self.judges, self.hosts

    @property
    def opening(self) -> Opening:
        """How episodes begin."""
        return Opening.of(self.model)

    def policy(self) -> Policy:
        """Connected from this process."""
        return connect_policy(self.model, self.sampling, self.seed, self.policy_directory, self.replicas)

    def reward_model(self) -> RewardModel | None:
        """Connected from this process."""
        if self.scorers is None:
            return None
        return connect_reward_model(self.scorers, self.engine, self.settings.likelihood)

    def judge(self) -> Completer:
        """Connected from this process."""
        judge, model, sampling = self.settings.judge, self.model, self.sampling
        return connect_judge(judge, model, sampling, self.policy_directory, self.replicas, self.judges)


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Searcher(TaskSearcher):
    """A `TaskSearcher` on a CPU core of its own."""

    def __init__(self, asked: Asked, results: str) -> None:
        settle()
        evaluator = Evaluator(
            asked.settings,
            asked.opening,
            asked.seed,
            asked.policy(),
            RemoteSessions(asked.hosts),
            RemoteGrader(asked.hosts),
            asked.reward_model(),
            asked.judge(),
        )
        super().__init__(evaluator, Results(results, methods(asked.settings)), asked.fleets)


@ray.remote(max_restarts=-1, max_task_retries=-1)
class WatchedSearcher:
    """A searcher whose rounds are shown while they end."""

    def __init__(self, asked: Asked) -> None:
        settle()
        self._asked = asked
        self._policy, self._sessions = asked.policy(), RemoteSessions(asked.hosts)
        self._grader = RemoteGrader(asked.hosts)

    async def search(self, task: Task, method: Method) -> AsyncIterator[Round | tuple[Result, Grade]]:
        """The rounds of one search, and last its result with the true grade, which the search does not see."""
        asked, rounds = self._asked, asyncio.Queue[Round | None]()
        model: RewardModel | None = asked.reward_model()
        if method is Method.judge:
            model = Judge(asked.judge(), asked.settings.judge.compare)
        made = strategy(method, asked.settings)
        searching = asyncio.create_task(
            search(made, task, self._policy, self._sessions, model, asked.settings, asked.opening, rounds.put_nowait)
        )
        searching.add_done_callback(lambda _: rounds.put_nowait(None))
        while (over := await rounds.get()) is not None:
            yield over
        result = await searching
        yield result, await self._grader.grade(task, result.state.actions)


def start_searchers(config: Config, asked: Asked, results: str) -> Fleet:
    """Start `evaluate.searchers` searchers, which write into `results`."""
    settings = config.evaluate
    size = Size.of(settings.searchers, settings.max_searchers, settings.concurrency)
    return Fleet.start(Searcher, size, actor_options(config, Role.environments), asked, results)

"""What the gateway is worth to an agent that knows nothing of AgentRM.

    agentrm benchmark agent run=runs/quickstart
    agentrm pool --live runs/seed1 runs/seed2 runs/seed3

The run's policy answers by vLLM's own server, the gateway stands in front of it, and an agent with the plain `openai`
client plays the run's test tasks, one live episode each, none of which is branched or reset: by the best of 2, 4 and 8
turns of the gateway, and at the policy's own address by the likeliest and by the most frequent of as many. A random
choice among any number is worth the mean of single samples. Episodes lie in `live/episodes.parquet` of the run; what
was stopped goes on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
from openai import AsyncOpenAI
from rich.console import Console

from actors.environments import RemoteGrader, RemoteSessions, start_environments
from actors.gateway import gateway
from actors.policy_server import PREFIX
from agentrm import storage
from agentrm.config.schema import Config
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import AgentRMError, UserError
from agentrm.core.task import Task
from agentrm.evaluation.live import LiveEvaluator, players
from agentrm.evaluation.metrics import Settings, summarise
from agentrm.evaluation.pooling import LIVE
from agentrm.evaluation.results import Results
from agentrm.failures import Failures
from agentrm.models import openai_policy
from agentrm.reports.report import by_group
from agentrm.run import RunDirectory
from agentrm.search.episode import Opening
from jobs.benchmarks.gateway import local
from jobs.evaluate import Work, evaluate, test_tasks, undone
from jobs.runtime import cluster, main
from jobs.terminal.tables import print_results

_TURNS = (2, 4, 8)


def run(config: Config, as_json: bool = False) -> dict[str, Any]:
    """Play what has not been played, and print the outcomes. Raises UserError for a policy that is behind an endpoint
    or calls tools, and without a reward model.
    """
    directory = RunDirectory.open(config)
    if not directory.finished(LIVE):
        _run(config, directory)
    table = pq.read_table(directory.path(LIVE) / "episodes.parquet")
    results = by_group(summarise(table, ["group"], Settings.of(config)))
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        print_results(results, Console())
    return results


def _run(config: Config, directory: RunDirectory) -> None:
    policy, reward_model = directory.require("policy", "clone"), directory.require("reward_model", "train")
    if openai_policy.FILE in storage.names(policy) or config.model.action_format is ActionFormat.tools:
        raise UserError(f"{policy} is behind an endpoint or calls tools: this agent plays by text, with local weights")
    config = replace(config, gateway=local(config.gateway, max(_TURNS)))
    todo = test_tasks(config)
    lanes = config.evaluate.concurrency
    # A player of each task asks at a time, and waits no longer than the gateway may.
    options: dict[str, Any] = {"api_key": "none", "timeout": config.gateway.deadline_s + 60, "max_retries": 4}
    direct, through = (AsyncOpenAI(base_url=f"{config.gateway.url}{path}/v1", **options) for path in (PREFIX, ""))
    asked = players(direct, through, storage.name(config.run), _TURNS, config.model.action_format)
    results = Results(directory.work(LIVE), asked)
    failures = Failures(directory.work(f"failures/{LIVE}"))
    missing = undone(todo, results, failures)
    if missing:
        with redirect_stdout(sys.stderr), cluster(config), start_environments(config) as hosts:
            evaluator = LiveEvaluator(
                asked,
                config.sampling,
                Opening.of(config.model),
                config.evaluate.max_depth,
                RemoteSessions(hosts),
                RemoteGrader(hosts),
            )
            with gateway(config, reward_model, policy):
                asyncio.run(_play(evaluator, missing, lanes, results, failures))
    with directory.writing(LIVE) as output:
        pq.write_table(results.table(todo, failures.given_up), output / "episodes.parquet")


async def _play(
    evaluator: LiveEvaluator, todo: Sequence[Work], lanes: int, results: Results, failures: Failures
) -> None:
    async def do(task: Task, group: str) -> Mapping[str, Any]:
        try:
            rows = await evaluator.rows(group, task, results.rows(task))
        except AgentRMError as error:
            return {"failed": error}
        await asyncio.to_thread(results.write, task, rows)
        return {"searches": len(rows)}

    await evaluate(todo, do, lanes, results, failures)


if __name__ == "__main__":
    main(run)

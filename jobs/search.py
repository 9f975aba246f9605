"""One test-time search on one task, shown live: candidates, their values, what was kept; at the end the true outcome.

    agentrm search --task babyai.goto_local.test.3 --method beam

The tree of a search that scored states is stored in the run directory, beneath `searches/`, as tree building stores its
trees.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace

from actors.environments import start_environments
from actors.fleet import Fleet, Size
from actors.policy import start_judge, start_policy
from actors.searcher import Asked, WatchedSearcher
from actors.serving import deployed
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Method
from agentrm.config.tasks import tasks
from agentrm.core.task import Task
from agentrm.data.trees import TreeStore
from agentrm.environments.registry import find_task
from agentrm.run import RunDirectory
from agentrm.search.methods import strategy
from agentrm.search.result import Result, Round
from jobs.evaluate import reward_model_for
from jobs.runtime import cluster, main
from jobs.terminal.console import console
from jobs.terminal.live import Live


def run(config: Config, task: str = "", method: Method = Method.beam) -> Result:
    """Search with the numbers of `evaluate`, on the first held-in task unless one is named. Raises UserError for a task
    that does not exist, and without a policy or a reward model that the method needs.
    """
    first = tasks(config.tasks.held_in, config.tasks.seed)[0]
    chosen = find_task(task, config.tasks.seed) if task else first
    directory = RunDirectory.open(config)
    policy = directory.require("policy", "clone")
    reward_model = reward_model_for(directory, [method])
    terminal = console()
    live, made = Live(terminal), strategy(method, config.evaluate)
    terminal.print(f"{chosen.id}: {made.label}", style="bold", markup=False)
    with (
        cluster(config),
        start_policy(config, policy) as replicas,
        start_judge(replace(config, evaluate=replace(config.evaluate, methods=[method]))) as judges,
        start_environments(config) as hosts,
        deployed(config, reward_model, http=False) if reward_model else nullcontext() as scorers,
        Fleet.start(
            WatchedSearcher,
            Size.of(1, None, 1),
            actor_options(config, Role.environments),
            Asked.of(config, policy, replicas, judges, hosts, scorers),
        ) as searchers,
    ):
        result = asyncio.run(_watched(searchers, chosen, method, live))
    judged, likelihood = method is Method.judge, config.evaluate.likelihood
    if result.score is not None:
        store = TreeStore(directory.at(f"searches/{method.value}"))
        store.write(result.tree)
        if likelihood and not judged:
            terminal.print(f"values: the reward model's plus {likelihood:g} of the log-probability", markup=False)
        terminal.print(f"explored tree: {store.root}", markup=False, soft_wrap=True)
    return result


async def _watched(searchers: Fleet, task: Task, method: Method, live: Live) -> Result:
    """Show a search of one searcher; returns its result."""
    (searcher,) = searchers.handles
    async for reference in searcher.search.options(num_returns="streaming").remote(task, method):
        told = await reference
        if isinstance(told, Round):
            live(told)
    result, grade = told
    live.result(result)
    live.truth(grade)
    return result


if __name__ == "__main__":
    main(run)

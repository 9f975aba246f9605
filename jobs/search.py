"""One test-time search on one task, shown live: candidates, their values, what was kept; at the end the true outcome.

    agentrm search --task babyai.goto_local.test.3 --method beam

The tree of a search that scored states is stored in the run directory, beneath `searches/`, as tree building stores its
trees.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace

from actors.environments import RemoteGrader, RemoteSessions, start_environments
from actors.policy import connect_judge, connect_policy, start_judge, start_policy
from actors.serving import connect_reward_model, deployed
from agentrm.config.schema import Config, Method
from agentrm.config.tasks import tasks
from agentrm.core.protocols import RewardModel
from agentrm.data.trees import TreeStore
from agentrm.environments.registry import find_task
from agentrm.models.judge import Judge
from agentrm.run import RunDirectory
from agentrm.search.episode import Opening
from agentrm.search.methods import strategy
from agentrm.search.result import Result
from agentrm.search.strategy import search
from jobs.evaluate import reward_model_for
from jobs.runtime import cluster, main
from jobs.terminal.live import Live
from jobs.terminal.tables import console


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
        deployed(config, reward_model, http=False) if reward_model else nullcontext() as handle,
    ):
        opening = Opening.of(config.model)
        generator, sessions = (
            connect_policy(config.model, config.sampling, config.seed, policy, replicas),
            RemoteSessions(hosts),
        )
        judged, likelihood = method is Method.judge, config.evaluate.likelihood
        scorer: RewardModel | None = None
        if judged:
            settings = config.evaluate.judge
            completer = connect_judge(settings, config.model, config.sampling, policy, replicas, judges)
            scorer = Judge(completer, settings.compare)
        elif handle is not None:
            scorer = connect_reward_model(handle, config.reward_engine, likelihood)

        async def play() -> Result:
            result = await search(made, chosen, generator, sessions, scorer, config.evaluate, opening, live)
            live.result(result)
            live.truth(await RemoteGrader(hosts).grade(chosen, result.state.actions))
            return result

        result = asyncio.run(play())
    if result.score is not None:
        store = TreeStore(directory.at(f"searches/{method.value}"))
        store.write(result.tree)
        if likelihood and not judged:
            terminal.print(f"values: the reward model's plus {likelihood:g} of the log-probability", markup=False)
        terminal.print(f"explored tree: {store.root}", markup=False, soft_wrap=True)
    return result


if __name__ == "__main__":
    main(run)

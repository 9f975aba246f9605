"""How fast beam search runs a batch of episodes, side by side with its own requests offline.

    agentrm benchmark search --preset quickstart --episodes 32 --json

All episodes are searched at once, by searchers like those of an evaluation. Then engines of the same kind answer what
the policy and the reward model were asked, all of it at once, both at the same time: the limit of what a search can
reach. Last, transformers answers what it can of the same, drawn at random, in 20 s each: the policy's prompts one
`generate` after the other, the states in padded batches, policy and reward model in turn as in a search of one process.
 `of_replay` is the share of the limit's rate,
`speedup_transformers` the ratio to the time that transformers would take for all; `tokens_per_solved` counts the
policy's tokens. The run directory must hold a policy and a reward model.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import redirect_stdout
from random import Random
from typing import Any

from rich.console import Console

from actors.benchmark import (
    PADDED_ROWS,
    DirectScoring,
    Generation,
    MeasuredSearcher,
    Request,
    TransformersReplay,
    TransformersScoring,
)
from actors.environments import start_environments
from actors.fleet import Fleet, Size
from actors.policy import start_policy
from actors.searcher import Asked
from actors.serving import deployed
from actors.workers import Workers
from agentrm import storage
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config
from agentrm.config.tasks import tasks
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from jobs.attempts import spread
from jobs.benchmarks.trees import replay, start_replay, warmed
from jobs.evaluate import searching
from jobs.runtime import cluster, main

_TRANSFORMERS_S = 20.0


def run(config: Config, episodes: int = 32, as_json: bool = False) -> dict[str, Any]:
    """Measure the first `episodes` tasks of `tasks.held_in`; prints and returns all figures. Raises UserError without a
    policy or a reward model.
    """
    directory = RunDirectory.open(config)
    policy = directory.require("policy", "clone")
    reward_model = directory.require("reward_model", "train")
    todo = tasks(config.tasks.held_in, config.tasks.seed)[:episodes]
    # Ray reports what goes wrong in its actors on stdout, which belongs to the figures.
    with redirect_stdout(sys.stderr), cluster(config):
        with (
            start_policy(config, policy) as replicas,
            start_environments(config) as hosts,
            deployed(config, reward_model, http=False) as scorers,
            Fleet.start(
                MeasuredSearcher,
                Size.of(config.evaluate.searchers, None, config.evaluate.concurrency),
                actor_options(config, Role.environments),
                Asked.of(config, policy, replicas, Fleet([]), hosts, scorers),
            ) as searchers,
        ):
            figures, requests, states = asyncio.run(_search(config, searchers, todo))
        renderer = Renderer.from_pretrained(storage.fetch(reward_model), config.model.context)
        ids = [renderer.ids(state.conversation()) for state in states]
        limit = asyncio.run(_limit(config, policy, requests, reward_model, ids))
        plain = asyncio.run(_transformers(config, policy, requests, reward_model, ids))
    figures = {
        "of_replay": max(limit.values()) / figures["seconds"],
        "speedup_transformers": sum(plain.values()) / figures["seconds"],
        **figures,
        "limit": limit,
        "transformers": plain,
    }
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures)
    return figures


async def _search(
    config: Config, searchers: Fleet, todo: list[Task]
) -> tuple[dict[str, Any], list[Request], list[State]]:
    """Seconds and counts of all episodes, once the engines of policy, reward model and environments have started, and
    what the models were asked.
    """
    lanes = max(config.evaluate.concurrency, len(todo))
    await warmed(searchers)
    await asyncio.gather(*(searcher.begin.remote(todo) for searcher in searchers.handles))
    before = await _cpu_seconds(searchers)
    started, cpu = time.monotonic(), time.process_time()
    with searching([(task, "held-in") for task in todo], lanes) as advance:
        total = await spread([(task, "held-in") for task in todo], Workers(searchers, lanes).work, lanes, advance)
    figures: dict[str, Any] = {
        "seconds": time.monotonic() - started,
        "driver_cpu_seconds": time.process_time() - cpu,
        "searchers_cpu_seconds": await _cpu_seconds(searchers) - before,
    }
    kept = await asyncio.gather(*(searcher.kept.remote() for searcher in searchers.handles))
    requests = [request for asked, _ in kept for request in asked]
    solved, tokens = int(total["solved"]), int(total["policy_tokens"])
    figures |= {
        "episodes": int(total["searches"]),
        "solved": solved,
        "tokens_per_solved": tokens / solved if solved else None,
        "policy_tokens": tokens,
        "policy_requests": len(requests),
        "scored_states": int(total["scored_states"]),
        "environment_steps": int(total["environment_steps"]),
    }
    return figures, requests, [state for _, states in kept for state in states]


async def _cpu_seconds(fleet: Fleet) -> float:
    return sum(await asyncio.gather(*(handle.cpu_seconds.remote() for handle in fleet.handles)))


async def _limit(
    config: Config, policy: str, requests: list[Request], reward_model: str, ids: list[list[int]]
) -> dict[str, float]:
    """Seconds that the engines of policy and reward model take for all their requests at once, both having started."""
    count = config.reward_engine.replicas
    size = Size.of(count, None, config.reward_engine.max_num_seqs)
    options = actor_options(config, Role.rollouts, config.reward_engine.gpus)
    arguments = reward_model, config.reward_engine, config.model.context
    with (
        start_replay(config, policy) as generators,
        Fleet.start(DirectScoring, size, options, *arguments) as scorers,
    ):
        await warmed(generators, scorers)
        shares = [scorer.run.remote(ids[number::count]) for number, scorer in enumerate(scorers.handles)]
        (generating, _), *scoring = await asyncio.gather(replay(generators, requests), *shares)
    return {"policy_seconds": generating, "reward_seconds": max(scoring)}


async def _transformers(
    config: Config, policy: str, requests: list[Request], reward_model: str, ids: list[list[int]]
) -> dict[str, float]:
    """Seconds that plain transformers would take for all requests, by the rate at which it answers some of them."""
    drawn = Random(config.seed)
    prompts = drawn.sample(requests, len(requests))
    batches = [ids[start : start + PADDED_ROWS] for start in range(0, len(ids), PADDED_ROWS)]
    drawn.shuffle(batches)
    one = Size.of(1, None, 1)
    options = actor_options(config, Role.rollouts, config.policy_engine.gpus)
    with Fleet.start(TransformersReplay, one, options, Generation.of(config, policy)) as actors:
        (actor,) = actors.handles
        seconds, answered = await actor.run.remote(prompts, _TRANSFORMERS_S)
    options = actor_options(config, Role.rollouts, config.reward_engine.gpus)
    with Fleet.start(TransformersScoring, one, options, reward_model, config.reward_engine) as actors:
        (actor,) = actors.handles
        scoring, scored = await actor.run.remote(batches, _TRANSFORMERS_S)
    return {"policy_seconds": seconds / answered * len(prompts), "reward_seconds": scoring / scored * len(ids)}


def _show(figures: dict[str, Any]) -> None:
    limit, plain = figures["limit"], figures["transformers"]
    Console(highlight=False).print(
        f"{figures['episodes']} episodes in {figures['seconds']:.1f} s: {figures['policy_tokens']:,} policy tokens, "
        f"{figures['scored_states']:,} scored states, {figures['environment_steps']:,} environment steps\n"
        f"the same requests at once: policy {limit['policy_seconds']:.1f} s, reward model "
        f"{limit['reward_seconds']:.1f} s; of that rate {figures['of_replay']:.2f}\n"
        f"with transformers: policy {plain['policy_seconds']:.1f} s, reward model {plain['reward_seconds']:.1f} s, "
        f"one after the other {figures['speedup_transformers']:.1f} times as long\n"
        f"{figures['solved']} episodes solved"
    )


if __name__ == "__main__":
    main(run)

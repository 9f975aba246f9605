"""How fast trees grow, side by side with the same policy, tasks and budget.

    agentrm benchmark trees --preset quickstart --trees 32 --json

(a) ours; (b) one tree and one request at a time on the same engine; (c) the same with transformers' `generate`, which
reads every prompt anew; and the limit: all requests of (a) at once through an engine of the same kind. (b) and (c) grow
trees of the same tasks in a random order of one seed, so that their few are like all of (a), and stop at the first one
that ends after their time; rates are compared. Rollouts go to the end of the episode in all of them. The run directory
must hold a policy; its trees are not touched.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from actors.benchmark import Generation, MeasuredBuilder, Replay, Request
from actors.environments import RemoteSessions, environment_counters, start_environments
from actors.fleet import Fleet, Size
from actors.policy import start_policy
from actors.workers import Workers
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config
from agentrm.config.tasks import tasks
from agentrm.models.routing import PrefixRouter
from agentrm.run import RunDirectory
from jobs.attempts import spread
from jobs.runtime import cluster, main
from jobs.trees import Work, growing, largest_first


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of growing trees: what was done in `seconds`, from the first tree's start to the last one's end.

    `steps` were executed by the environments, for `edges` distinct edges of trees; `cpu_seconds` is the builders'.
    """

    name: str
    seconds: float
    trees: int
    rollouts: int
    tokens: int
    edges: int
    steps: int
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Rollouts per second."""
        return self.rollouts / self.seconds


def run(config: Config, trees: int = 32, seconds: float = 60.0, as_json: bool = False) -> dict[str, Any]:
    """Measure `trees` tasks drawn from `tasks.trees`, (b) and (c) for about `seconds` each; prints and returns all
    figures. Raises UserError without a policy.
    """
    policy = RunDirectory.open(config).require("policy", "clone")
    drawn = tasks(config.tasks.trees, config.tasks.seed)
    Random(config.seed).shuffle(drawn)
    todo: list[Work] = [(task, [0]) for task in drawn[:trees]]
    config = replace(config, trees=replace(config.trees, rollout_steps=None, bootstrap=""))
    serial = replace(config, trees=replace(config.trees, simulations=1, concurrency=1, builders=1))
    # Ray reports what goes wrong in its actors on stdout, which belongs to the figures.
    with redirect_stdout(sys.stderr), cluster(config):
        with start_policy(config, policy) as replicas:
            ours, requests = asyncio.run(_grow("ours", config, policy, replicas, largest_first(todo, config.trees)))
            one, _ = asyncio.run(_grow("one request at a time", serial, policy, replicas, todo, seconds))
        plain, _ = asyncio.run(_grow("transformers", serial, policy, None, todo, seconds))
        with start_replay(config, policy) as engines:
            limit_seconds, limit_tokens = asyncio.run(_limit(engines, requests))
    figures = {
        "saturation": (ours.tokens / ours.seconds) / (limit_tokens / limit_seconds),
        "speedup_serial": ours.rate / one.rate,
        "speedup_transformers": ours.rate / plain.rate,
        "steps_per_edge": ours.steps / ours.edges,
        "steps_per_second": ours.steps / ours.seconds,
        "builder_cpu_ms_per_step": 1000 * ours.cpu_seconds / ours.edges,
        "limit": {"seconds": limit_seconds, "tokens": limit_tokens, "requests": len(requests)},
        "arms": [asdict(arm) for arm in (ours, one, plain)],
    }
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures, (ours, one, plain))
    return figures


async def _grow(
    name: str, config: Config, policy: str, replicas: Fleet | None, todo: list[Work], seconds: float | None = None
) -> tuple[Arm, list[Request]]:
    """One arm, its builders' requests included; without replicas the builder runs transformers itself."""
    role, gpus = (Role.environments, 0.0) if replicas else (Role.rollouts, config.policy_engine.gpus)
    options = actor_options(config, role, gpus)
    with tempfile.TemporaryDirectory() as store, start_environments(config) as hosts:
        arguments = (config.trees, Generation.of(config, policy), store, replicas, hosts, seconds is not None)
        size = Size.of(config.trees.builders, None, config.trees.concurrency)
        with Fleet.start(MeasuredBuilder, size, options, *arguments) as builders:
            # Engines of policy and environments start before the clock does.
            await warmed(builders)
            sessions = RemoteSessions(hosts)
            await asyncio.gather(*(sessions.observe(task, ()) for task, _ in todo))
            before = (await environment_counters(hosts))["steps"]
            cpu_before = await _cpu_seconds(builders)
            started = time.monotonic()
            lanes = config.trees.concurrency
            most = lanes * config.trees.builders
            with growing(name, todo, config.trees, most) as advance:
                counts = await spread(_work(todo, seconds), Workers(builders, lanes).work, most, advance)
            arm = Arm(
                name=name,
                seconds=time.monotonic() - started,
                trees=counts["trees"],
                rollouts=counts["rollouts"],
                tokens=counts["tokens"],
                edges=counts["nodes"] - counts["trees"],
                steps=(await environment_counters(hosts))["steps"] - before,
                cpu_seconds=await _cpu_seconds(builders) - cpu_before,
            )
            requests = await asyncio.gather(*(builder.requests.remote() for builder in builders.handles))
    return arm, [request for asked in requests for request in asked]


def _work(todo: list[Work], seconds: float | None) -> Iterator[Work]:
    """The tasks in their order, until the time is over."""
    started = time.monotonic()
    for work in todo:
        if seconds is not None and time.monotonic() - started > seconds:
            return
        yield work


def start_replay(config: Config, policy: str) -> Fleet:
    """As many engines as the policy has replicas, for `replay`."""
    options = actor_options(config, Role.rollouts, config.policy_engine.gpus)
    size = Size.of(config.policy_engine.replicas, None, config.policy_engine.max_num_seqs)
    return Fleet.start(Replay, size, options, Generation.of(config, policy))


async def warmed(*fleets: Fleet) -> None:
    """Return when every engine has answered once."""
    await asyncio.gather(*(engine.warm.remote() for fleet in fleets for engine in fleet.handles))


async def replay(engines: Fleet, requests: list[Request]) -> tuple[float, int]:
    """Seconds and tokens of all requests at once, spread over the replicas as they would have been one by one."""
    router = PrefixRouter()
    shares: dict[str, list[Request]] = {name: [] for name in engines.names}
    for request in requests:
        with router.request(request.ids.tolist()) as placed:
            shares[placed.place(engines.names)].append(request)
    done = await asyncio.gather(*(engines.handle(name).run.remote(share) for name, share in shares.items()))
    return max(seconds for seconds, _ in done), sum(tokens for _, tokens in done)


async def _limit(engines: Fleet, requests: list[Request]) -> tuple[float, int]:
    await warmed(engines)
    return await replay(engines, requests)


async def _cpu_seconds(builders: Fleet) -> float:
    return sum(await asyncio.gather(*(builder.cpu_seconds.remote() for builder in builders.handles)))


def _show(figures: dict[str, Any], arms: Iterable[Arm]) -> None:
    table = Table("", "trees", "rollouts/s", "sampled tokens/s", "seconds", box=box.SIMPLE_HEAD)
    for arm in arms:
        table.add_row(
            arm.name, f"{arm.trees}", f"{arm.rate:.2f}", f"{arm.tokens / arm.seconds:,.0f}", f"{arm.seconds:.1f}"
        )
    limit = figures["limit"]
    table.add_row("replay at once", "", "", f"{limit['tokens'] / limit['seconds']:,.0f}", f"{limit['seconds']:.1f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"saturation of the engine {figures['saturation']:.2f}; "
        f"{figures['speedup_serial']:.1f} times one request at a time, "
        f"{figures['speedup_transformers']:.1f} times transformers\n"
        f"{figures['steps_per_edge']:.2f} environment steps per edge, {figures['steps_per_second']:.1f} per second; "
        f"{figures['builder_cpu_ms_per_step']:.2f} ms of builder CPU per edge"
    )


if __name__ == "__main__":
    main(run)

"""Environment hosts as Ray actors, and the client that keeps each task's sessions on one of them."""

from __future__ import annotations

from collections import Counter

import ray

from actors.fleet import Fleet
from agentrm.config.schema import Config, Hosts
from agentrm.environments.base import Grade, Observation, Task
from agentrm.environments.host import EnvironmentHost


@ray.remote(max_restarts=-1, max_task_retries=-1)
class EnvironmentActor:
    """One host: live sessions in a process of their own, a deadline on every call."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._host: EnvironmentHost | None = None

    def _live(self) -> EnvironmentHost:
        if self._host is None:  # made inside the actor's event loop, which does not run in __init__
            self._host = EnvironmentHost(1, self._hosts.deadline_s, self._hosts.sessions)
        return self._host

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """See `agentrm.models.base.Sessions`."""
        return await self._live().observe(task, actions)

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        """See `agentrm.models.base.Grader`."""
        return await self._live().grade(task, actions)

    async def expert_actions(self, task: Task) -> list[str]:
        """The oracle's actions."""
        return await self._live().expert_actions(task)

    async def counters(self) -> dict[str, int]:
        """Steps, replays, restores and failures so far."""
        return await self._live().counters()

    async def close(self) -> None:
        """End the host's process."""
        await self._live().aclose()


class RemoteSessions:
    """`Sessions` over environment actors: what a policy's side may hold."""

    def __init__(self, hosts: Fleet) -> None:
        self._hosts = hosts

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """See `agentrm.models.base.Sessions`."""
        return await self._hosts.member(task.id).observe.remote(task, actions)


class RemoteGrader:
    """`Grader` over environment actors, for tree building and evaluation alone."""

    def __init__(self, hosts: Fleet) -> None:
        self._hosts = hosts

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        """See `agentrm.models.base.Grader`."""
        return await self._hosts.member(task.id).grade.remote(task, actions)


class RemoteExpert:
    """The oracle over environment actors, for behaviour cloning alone."""

    def __init__(self, hosts: Fleet) -> None:
        self._hosts = hosts

    async def expert_actions(self, task: Task) -> list[str]:
        """The oracle's actions from the first observation to success, or []."""
        return await self._hosts.member(task.id).expert_actions.remote(task)


def start_environments(config: Config) -> Fleet:
    """Start `hosts.workers` environment actors."""
    return Fleet.start(EnvironmentActor, config.hosts.workers, {"num_cpus": 1}, config.hosts)


async def environment_counters(hosts: Fleet) -> dict[str, int]:
    """The counters of all hosts, summed."""
    total: Counter[str] = Counter()
    for host in hosts.handles:
        total.update(await host.counters.remote())
    return dict(total)

"""Environment hosts as Ray actors, and the client that keeps each task's sessions on one of them."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import Any

import psutil
import ray

from actors.fleet import Fleet, Size
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Hosts
from agentrm.core.batching import Batcher
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.hosting.host import EnvironmentHost
from agentrm.environments.hosting.process import Answer, Call, value_of

_YIELDING = 10

# A message costs milliseconds, a step less than one.
CALLS = 16
MESSAGES = 2

# A host serves one call after the other, so more than these are waiting.
_CALLS_AT_A_TIME = 4


def yield_to_engines() -> None:
    """Lower the priority of this process: an engine on the same CPU goes first, for the others wait for it anyway."""
    # On Linux each thread has a priority of its own, and Ray has started some by now.
    for thread in psutil.Process().threads():
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, thread.id, os.getpriority(os.PRIO_PROCESS, thread.id) + _YIELDING)


@ray.remote(max_restarts=-1, max_task_retries=-1)
class EnvironmentActor:
    """One host: live sessions in a process of their own, a deadline on every call."""

    def __init__(self, hosts: Hosts) -> None:
        yield_to_engines()
        self._hosts = hosts
        self._host: EnvironmentHost | None = None
        self._load = 0

    def _live(self) -> EnvironmentHost:
        if self._host is None:  # made inside the actor's event loop, which does not run in __init__
            self._host = EnvironmentHost(self._hosts.deadline_s, self._hosts.sessions)
        return self._host

    async def answer(self, calls: list[Call]) -> list[Answer]:
        """See `EnvironmentHost.answer`."""
        self._load += len(calls)
        try:
            return await self._live().answer(calls)
        finally:
            self._load -= len(calls)

    async def load(self) -> int:
        """See `actors.scaling`."""
        return self._load

    async def counters(self) -> dict[str, int]:
        """Steps, replays, restores and failures so far."""
        return await self._live().counters()

    async def close(self) -> None:
        """End the host's process."""
        await self._live().aclose()


class _Hosts:
    """The way to the actor that keeps a task's sessions."""

    def __init__(self, hosts: Fleet) -> None:
        self._hosts = hosts
        self._batches: dict[str, Batcher[Call]] = {}

    async def _call(self, method: str, task: Task, *arguments: Any) -> Any:
        async def ask(name: str) -> Any:
            if name not in self._batches:
                self._batches[name] = Batcher(self._hosts.find(name).answer.remote, CALLS, MESSAGES)
            return value_of(await self._batches[name].ask((method, task, *arguments)))

        return await self._hosts.ask(lambda: self._hosts.member(task.id), ask)


class RemoteSessions(_Hosts):
    """`BranchingSessions` over environment actors: what a policy's side may hold."""

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """See `agentrm.core.protocols.Sessions`."""
        return await self._call("observe", task, actions)

    async def fingerprint(self, task: Task, actions: tuple[str, ...]) -> str:
        """See `agentrm.core.protocols.BranchingSessions`."""
        return await self._call("fingerprint", task, actions)


class RemoteGrader(_Hosts):
    """`Grader` over environment actors, for tree building and evaluation alone."""

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        """See `agentrm.core.protocols.Grader`."""
        return await self._call("grade", task, actions)


class RemoteExpert(_Hosts):
    """The oracle over environment actors, for behaviour cloning alone."""

    async def expert_actions(self, task: Task) -> list[str]:
        """The oracle's actions from the first observation to success, or []."""
        return await self._call("expert_actions", task)

    async def expert_thoughts(self, task: Task, actions: tuple[str, ...]) -> list[str]:
        """What the oracle thinks before each of its `actions`; "" where it says nothing."""
        return await self._call("expert_thoughts", task, actions)


def start_environments(config: Config) -> Fleet:
    """Start `hosts.workers` environment actors."""
    hosts = config.hosts
    size = Size.of(hosts.workers, hosts.max_workers, _CALLS_AT_A_TIME)
    return Fleet.start(EnvironmentActor, size, actor_options(config, Role.environments), hosts)


async def environment_counters(hosts: Fleet) -> dict[str, int]:
    """The counters of all hosts, summed."""
    total: Counter[str] = Counter()
    for host in hosts.handles:
        total.update(await host.counters.remote())
    return dict(total)

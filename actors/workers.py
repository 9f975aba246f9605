"""Fleets that work off tasks: each worker runs many of them at once as coroutines and commits what is done to storage.

Tree builders and searchers are such workers. The driver deals out tasks and hears how much was done; a worker may die
at any time, and another one does what it had not finished.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from actors.environments import yield_to_engines
from actors.fleet import Fleet
from agentrm.core.errors import EnvironmentFailure, ModelError, ModelUnavailable, UserError
from agentrm.core.task import Task

Members = tuple[list[str], list[str]]
"""The arguments of `Fleet.update`."""
Counts = dict[str, Any]
"""What was counted, by name, and under `failed` the AgentRMError that left the rest of a task undone."""


def settle() -> None:
    """Make this process a worker's alone."""
    yield_to_engines()
    # What is imported by now lives as long as this process, so the collector need not walk it.
    gc.freeze()


class Worker:
    """Does tasks with what the `fleets` answer; holds no more of them than run at a time."""

    def __init__(self, fleets: Sequence[Fleet] = ()) -> None:
        self._fleets = fleets
        self._load = 0

    async def work(self, task: Task, what: Any) -> Counts:
        """Do `what` is asked for of a task; returns the summed counts of its committed pieces.

        A task that cannot be done to its end gives the reason in `failed`. Raises ModelUnavailable.
        """
        total: dict[str, Any] = defaultdict(float)
        self._load += 1
        try:
            async for counts in self._pieces(task, what):
                for name, count in counts.items():
                    total[name] += count
        except ModelUnavailable:
            raise
        except (EnvironmentFailure, ModelError, UserError) as error:
            # Ray hands over an actor's error as one that cannot be sent on.
            total["failed"] = getattr(error, "cause", error)
        finally:
            self._load -= 1
        return dict(total)

    def _pieces(self, task: Task, what: Any) -> AsyncIterator[Mapping[str, float]]:
        """Do and commit piece after piece, and give what each counted."""
        raise NotImplementedError

    async def load(self) -> int:
        """See `actors.scaling`."""
        return self._load

    async def update(self, *members: Members) -> None:
        """Take up who serves in each fleet, and who is lost: see `Fleet.update`."""
        for fleet, (serving, lost) in zip(self._fleets, members, strict=True):
            fleet.update(serving, lost)


class Workers:
    """A fleet of workers as one: each is kept at `lanes` tasks, what is more waits here."""

    def __init__(self, fleet: Fleet, lanes: int) -> None:
        self._fleet = fleet
        self._lanes = lanes
        self._running: Counter[str] = Counter()
        self._admitted = 0
        self._waiting = 0
        self._room = asyncio.Event()

    def load(self) -> int:
        """Tasks that are worked on or wait."""
        return self._admitted + self._waiting

    async def work(self, task: Task, what: Any) -> Counts:
        """See `Worker`. Of a worker that is lost, another one does what was not done; a piece that both commit is there
        once.
        """

        async def ask(name: str) -> Counts:
            try:
                return await self._fleet.find(name).work.remote(task, what)
            finally:
                self._running[name] -= 1

        self._waiting += 1
        try:
            while self._admitted >= self._lanes * len(self._fleet.names):
                self._room.clear()
                await self._room.wait()
        finally:
            self._waiting -= 1
        self._admitted += 1
        try:
            return await self._fleet.ask(self._least_busy, ask)
        finally:
            self._admitted -= 1
            self._room.set()

    def tell(self, *fleets: Fleet) -> None:
        """Let all workers know the members of the fleets that they ask; called when this fleet's own may have
        changed.
        """
        self._room.set()
        members = [(fleet.names, fleet.lost) for fleet in fleets]
        for worker in self._fleet.handles:
            worker.update.remote(*members)

    def _least_busy(self) -> str:
        name = min(self._fleet.names, key=self._running.__getitem__)
        self._running[name] += 1
        return name

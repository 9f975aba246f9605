"""Fleets that follow their load: members are added while requests wait and end when they stay idle.

A member that has no room yet stays pending, which makes Ray's autoscaler add a node; a node whose members have ended is
the autoscaler's to remove. The rule is that of Ray Serve: enough members for `target` requests at a time on each.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from actors.fleet import Fleet, Size
from actors.metrics import FleetMetrics
from agentrm.core.errors import reason

TICK_S = 0.5
IDLE_S = 10.0
"""How long fewer members would do before one ends."""
SILENCE_S = 30.0
"""A member that has not answered for so long is taken for lost until it answers again."""

Load = Callable[[], float]


@asynccontextmanager
async def scaled(fleets: Mapping[Fleet, Load | None], tell: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Keep fleets at the size of their load for the block, and drop members that are silent until they answer again.

    `fleets[fleet]` gives a fleet's requests, waiting ones included; None: the sum of what its members say. `tell` is
    called after every look at them, for processes that have fleets of their own. Members have an async method `load`
    that returns the number of their requests under way.
    """
    # A remote policy's fleet has no actors here.
    watched = [_Scaled(fleet, load) for fleet, load in fleets.items() if fleet.kind is not None]

    metrics = FleetMetrics()

    async def follow() -> None:
        while True:
            for scaled_fleet in watched:
                scaled_fleet.tick(metrics)
            tell()
            await asyncio.sleep(TICK_S)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await asyncio.gather(*(scaled_fleet.end() for scaled_fleet in watched))


@dataclass(slots=True)
class _Member:
    """`load`: requests under way when it was last heard of, None before; times are of the monotonic clock."""

    heard: float
    load: float | None = None
    leaving: bool = False
    left: float = 0.0
    watch: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Scaled:
    """One fleet and what is known of its members; `load` replaces their own word for it."""

    fleet: Fleet
    load: Load | None
    members: dict[str, _Member] = field(default_factory=dict)
    retiring: set[asyncio.Task[None]] = field(default_factory=set)
    enough_since: float | None = None

    def __post_init__(self) -> None:
        for name in self.fleet.names:
            self._join(name)

    def _join(self, name: str) -> None:
        member = self.members[name] = _Member(time.monotonic())
        member.watch = asyncio.create_task(self._watch(name, member))

    async def _watch(self, name: str, member: _Member) -> None:
        while True:
            member.load = await self.fleet.handle(name).load.remote()
            member.heard = time.monotonic()
            await asyncio.sleep(TICK_S)

    def tick(self, metrics: FleetMetrics) -> None:
        """Learn who serves, start or end members, and update the fleet."""
        now, size = time.monotonic(), self.fleet.size
        assert size is not None and self.fleet.kind is not None
        self._forget_failed(size)
        ready = {name: member for name, member in self.members.items() if member.load is not None}
        lost = [name for name, member in ready.items() if now - member.heard > SILENCE_S]
        serving = [name for name, member in ready.items() if name not in lost and not member.leaving]
        # Those that serve stay first.
        staying = sorted(
            (name for name, member in self.members.items() if not member.leaving), key=lambda name: name not in serving
        )
        load = self.load() if self.load else sum(ready[name].load or 0.0 for name in serving)
        wanted = min(max(math.ceil(load / size.target), size.minimum), size.maximum)
        for _ in range(wanted - len(staying)):
            self._join(self.fleet.add())
        if wanted >= len(staying):
            self.enough_since = None
        elif self.enough_since is None:
            self.enough_since = now
        elif now - self.enough_since > IDLE_S:
            for name in staying[wanted:]:
                self.members[name].leaving, self.members[name].left = True, now
            serving = [name for name in serving if name in staying[:wanted]]
        for name, member in list(self.members.items()):
            idle = member.load is None or (member.load == 0 and member.heard > member.left + 2 * TICK_S)
            if member.leaving and idle:
                self._remove(name)
        metrics.record(self.fleet.kind.name, len(serving), load)
        # Before the first one has answered, requests wait for those that were started.
        self.fleet.update(serving or self.fleet.names, lost if serving else ())

    def _forget_failed(self, size: Size) -> None:
        """Forget members beyond the minimum that could not start; without the minimum the job fails by itself."""
        for name, member in list(self.members.items()):
            if member.watch is None or not member.watch.done() or len(self.members) <= size.minimum:
                continue
            error = member.watch.exception()
            assert error is not None
            kept = len(self.members) - 1
            print(f"a fleet stays at {kept} members, for one did not start: {reason(error)}", file=sys.stderr)
            self.fleet.size = replace(size, maximum=kept)
            self._remove(name)

    def _remove(self, name: str) -> None:
        member = self.members.pop(name)
        if member.watch is not None:
            member.watch.cancel()
        if member.load is None:
            self.fleet.remove(name)
            return
        retiring = asyncio.create_task(self.fleet.retire(name))
        self.retiring.add(retiring)
        retiring.add_done_callback(self.retiring.discard)

    async def end(self) -> None:
        watches = [member.watch for member in self.members.values() if member.watch is not None]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await asyncio.gather(*self.retiring)

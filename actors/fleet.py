"""Groups of equal actors that end with a `with` block, that other actors find by name, and that grow and shrink."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from agentrm.core.errors import AgentRMError, ModelUnavailable, reason
from agentrm.models.routing import rendezvous

T = TypeVar("T")

_EMPTY_S = 120.0
_POLL_S = 0.1
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Size:
    """A fleet has `minimum` to `maximum` members, and as many between them as give each `target` requests at a time."""

    minimum: int
    maximum: int
    target: float

    @classmethod
    def of(cls, minimum: int, maximum: int | None, target: float) -> Size:
        """Without a maximum the fleet keeps its size."""
        return cls(minimum, max(minimum, maximum or 0), target)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a fleet starts: a Ray actor class with its options and arguments."""

    actor: Any
    options: dict[str, Any]
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The actors' class."""
        return self.actor.__ray_metadata__.class_name

    @property
    def closes(self) -> bool:
        """Whether the actors have something to clear away, by a method `close`."""
        return hasattr(self.actor.__ray_metadata__.modified_class, "close")

    def start(self, name: str) -> ActorHandle:
        """One more actor, which may wait for its resources."""
        return self.actor.options(name=name, **self.options).remote(*self.arguments)


class Fleet:
    """Named actors of this job, as one process sees them: `update` says who serves, and who is lost.

    Pickled as names: an actor that restarts must hold no handles from its first start. All methods but `start` belong
    to one event loop at a time.
    """

    def __init__(self, names: Iterable[str], kind: Kind | None = None, size: Size | None = None) -> None:
        self.names = list(names)
        self.lost: list[str] = []
        self.kind = kind
        self.size = size
        self._handles: dict[str, ActorHandle] = {}
        self._asked: defaultdict[str, set[asyncio.Task[Any]]] = defaultdict(set)

    @classmethod
    def start(cls, actor: Any, size: Size, options: dict[str, Any], *arguments: Any) -> Fleet:
        """The minimum of actors of one Ray actor class, made with the same arguments."""
        fleet = cls([], Kind(actor, options, arguments), size)
        for _ in range(size.minimum):
            fleet.names.append(fleet.add())
        return fleet

    def add(self) -> str:
        """Start one more actor, which does not serve before `update` says so; returns its name."""
        assert self.kind is not None, "only the process that started a fleet adds to it"
        name = uuid.uuid4().hex
        self._handles[name] = self.kind.start(name)
        return name

    def remove(self, name: str) -> None:
        """End an actor."""
        ray.kill(self._handles.pop(name))

    async def retire(self, name: str) -> None:
        """Let an actor clear away what it has, then end it."""
        if self.kind is not None and self.kind.closes:
            with suppress(RayActorError, TimeoutError):
                await asyncio.wait_for(self.handle(name).close.remote(), _CLOSE_S)
        self.remove(name)

    def handle(self, name: str) -> ActorHandle:
        """The actor of that name. Raises ValueError when it has been removed."""
        if name not in self._handles:
            self._handles[name] = ray.get_actor(name)
        return self._handles[name]

    @property
    def handles(self) -> list[ActorHandle]:
        """Handles of all members that serve."""
        return [self.handle(name) for name in self.names]

    def member(self, key: str) -> str:
        """The member that serves a key; a change of members moves only the keys of those that came or went."""
        return rendezvous(key, self.names)

    async def ask(self, choose: Callable[[], str], call: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        """`call` of the member that `choose` names; once more, of another one, if that is lost before it has answered.

        Raises what `call` raises, and AgentRMError when a member could not start.
        """
        while True:
            name = await self._chosen(choose)
            asked = asyncio.create_task(call(name))
            self._asked[name].add(asked)
            try:
                return await asked
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
            except RayActorError as error:
                if error.actor_init_failed:
                    raise AgentRMError(f"an actor could not start: {reason(error)}") from error
                self._drop(name)
            except _Removed:
                self._drop(name)
            finally:
                self._asked[name].discard(asked)

    def find(self, name: str) -> ActorHandle:
        """`handle`, for use in `ask`."""
        try:
            return self.handle(name)
        except ValueError as error:
            raise _Removed from error

    def update(self, serving: Collection[str], lost: Collection[str]) -> None:
        """Take only `serving` members from now on, and ask again elsewhere what the `lost` ones have not answered."""
        self.names, self.lost = list(serving), list(lost)
        for name in lost:
            for asked in self._asked.pop(name, ()):
                asked.cancel()

    def _drop(self, name: str) -> None:
        """A member that this process knows to be gone, before it was told."""
        self._handles.pop(name, None)
        self.names = [other for other in self.names if other != name]

    async def _chosen(self, choose: Callable[[], str]) -> str:
        deadline = time.monotonic() + _EMPTY_S
        while not self.names:
            if time.monotonic() > deadline:
                raise ModelUnavailable(f"no member of a fleet has served for {_EMPTY_S:.0f} s: see the cluster's logs")
            await asyncio.sleep(_POLL_S)
        return choose()

    def __reduce__(self) -> tuple[type[Fleet], tuple[list[str]]]:
        return Fleet, (self.names,)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> None:
        if self.kind is not None and self.kind.closes and self._handles:
            closing = [handle.close.remote() for handle in self._handles.values()]
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S)
        for name in list(self._handles):
            self.remove(name)


class _Removed(Exception):
    """The name of an actor that its fleet has ended since."""

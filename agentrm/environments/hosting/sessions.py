"""Environments as a pure function of (task, actions): served from memory, a live engine, a snapshot, or by replay."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar

from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.core.state import SEPARATOR, joined
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.base import Environment
from agentrm.environments.registry import environment_class

Actions = tuple[str, ...]
Place = tuple[Task, Actions]
"""A state: a task and the actions executed so far."""
Key = TypeVar("Key")
Value = TypeVar("Value")

QUOTED_CHARACTERS = 80


class LRU(OrderedDict[Key, Value], Generic[Key, Value]):
    """A dict that keeps the `limit` entries used last."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def use(self, key: Key) -> Value | None:
        """The value of a key, which becomes the last used one."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def put(self, key: Key, value: Value) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self.limit:
            self.popitem(last=False)


@dataclass(eq=False)
class Session:
    """A live engine; `place` is the state that it is in, None where that is not known."""

    name: str
    environment: Environment
    place: Place | None = None
    observation: Observation | None = None


class SessionPool:
    """All environments of one process; synchronous, and bounded in live engines, snapshots and remembered texts.

    An action may be several (see `joined`): they are taken one after the other, up to the one that ends the episode,
    and what is observed is as many texts joined. The step limit is the caller's. Failures of an engine are raised as
    EnvironmentFailure and cost only that engine. `counters`: `steps` that engines executed, of them `replayed` (known
    before), so that steps - replayed is the number of distinct actions; `resets`, `restores` of snapshots, `live_hits`
    (an engine stood there or one step before) and `memory_hits` (no engine was needed).
    """

    def __init__(self, max_sessions: int = 256, max_snapshots: int = 4096, max_memories: int = 20_000) -> None:
        self._max_sessions = max_sessions
        # By environment; those that are needed least come first.
        self._live: defaultdict[str, OrderedDict[Place, Session]] = defaultdict(OrderedDict)
        self._idle: list[Session] = []
        self._snapshots: LRU[Place, tuple[Any, Observation]] = LRU(max_snapshots)
        self._observations: LRU[Place, Observation] = LRU(max_memories)
        self._grades: LRU[Place, Grade] = LRU(max_memories)
        self.counters = dict.fromkeys(("steps", "replayed", "resets", "restores", "live_hits", "memory_hits"), 0)

    @property
    def sessions(self) -> list[Session]:
        """All live engines."""
        return [*self._idle, *chain.from_iterable(live.values() for live in self._live.values())]

    def open(self, name: str) -> None:
        """Start an engine of this environment, unless one is live. Raises UserError when it cannot be had here."""
        if not any(session.name == name for session in self.sessions):
            self._idle.append(self._acquire(name))

    def observe(self, task: Task, actions: Actions) -> Observation:
        """The observation after `actions`; () is the first one. Raises UserError past the end of an episode."""
        known = self._observations.use((task, actions))
        if known is not None:
            self.counters["memory_hits"] += 1
            return known
        return self._at(task, actions, lambda session: session.observation)

    def grade(self, task: Task, actions: Actions) -> Grade:
        """The hidden truth of the state after `actions`."""
        place = task, actions
        known = self._grades.use(place)
        if known is None:
            known = self._at(task, actions, lambda session: session.environment.grade())
            self._grades.put(place, known)
            # Callers grade where they stop: this engine is the first to be given to another state.
            own = self._live[task.environment]
            if place in own:
                own.move_to_end(place, last=False)
        return known

    def fingerprint(self, task: Task, actions: Actions) -> str:
        """A digest of the engine's state after `actions`."""
        return self._at(task, actions, lambda session: session.environment.fingerprint())

    def expert_actions(self, task: Task) -> list[str]:
        """The oracle's actions from the first observation to success, or []."""
        return self._at(task, (), lambda session: session.environment.expert_actions())

    def expert_thoughts(self, task: Task, actions: Actions) -> list[str]:
        """What the oracle thinks before each of its `actions`; "" where it says nothing."""

        def before(t: int) -> str:
            return self._at(task, actions[:t], lambda session: session.environment.thought(actions[t:]))

        return [*map(before, range(len(actions)))]

    def admissible_actions(self, task: Task, actions: Actions) -> list[str]:
        """What the engine accepts in the state after `actions`, for people and tests."""
        return self._at(task, actions, lambda session: session.environment.admissible_actions())

    def close(self) -> None:
        """Close every engine; the pool can be used again."""
        sessions = self.sessions
        self._live.clear()
        self._idle.clear()
        for session in sessions:
            session.environment.close()

    def _at(self, task: Task, actions: Actions, read: Callable[[Session], Any]) -> Any:
        """Read something off a live engine in the state after `actions`."""
        session, snapshot = self._nearest(task, actions)
        try:
            if snapshot is not None:
                session.place, session.observation = self._restore(session, snapshot)
            self._advance(session, task, actions)
            value = read(session)
        except UserError:
            session.place = None
            self._idle.append(session)
            raise
        except Exception as error:
            _discard(session)
            text = f"{task.environment} failed with {error!r}: {describe_request(task, actions)}"
            raise EnvironmentFailure(text) from error
        self._put_back(session)
        return value

    def _nearest(self, task: Task, actions: Actions) -> tuple[Session, Place | None]:
        """The engine that is next to the state, and the snapshot to restore in it first, if there is one."""
        own = self._live[task.environment]
        for count in range(len(actions), -1, -1):
            place = task, actions[:count]
            live = own.pop(place, None)
            if live is not None:
                self.counters["live_hits"] += count >= len(actions) - 1
                return live, None
            if place in self._snapshots:
                return self._acquire(task.environment), place
        return self._acquire(task.environment), None

    def _acquire(self, name: str) -> Session:
        """An engine in no known state: an idle one, a new one within the bounds, else the one needed least."""
        for index, session in enumerate(self._idle):
            if session.name == name:
                return self._idle.pop(index)
        cls, own = environment_class(name), self._live[name]
        if len(own) >= min(cls.max_live or self._max_sessions, self._max_sessions):
            _, session = own.popitem(last=False)
            session.place = None
            return session
        if len(self._idle) + sum(map(len, self._live.values())) >= self._max_sessions:
            most = max(self._live.values(), key=len)
            _discard(self._idle.pop(0) if self._idle else most.popitem(last=False)[1])
        return Session(name, cls())

    def _restore(self, session: Session, place: Place) -> tuple[Place, Observation]:
        snapshot = self._snapshots.use(place)
        assert snapshot is not None
        state, observation = snapshot
        session.environment.restore(state)
        self.counters["restores"] += 1
        return place, observation

    def _advance(self, session: Session, task: Task, actions: Actions) -> None:
        """Bring the engine to the state, from where it is on the way or from the start."""
        environment = session.environment
        if session.place is None:
            session.observation = environment.reset(task)
            session.place = task, ()
            self.counters["resets"] += 1
            self._remember(session)
        for count in range(len(session.place[1]) + 1, len(actions) + 1):
            assert session.observation is not None
            if session.observation.done:
                ended = f"the episode ended after {count - 1} of {len(actions)} actions"
                raise UserError(f"{ended}: {describe_request(task, actions[: count - 1])}")
            place = task, actions[:count]
            known = place in self._observations
            # A turn that calls several tools takes several actions.
            taken, texts = actions[count - 1].split(SEPARATOR), []
            for action in taken:
                session.observation = environment.step(action)
                texts.append(session.observation.text)
                self.counters["steps"] += 1
                self.counters["replayed"] += known
                if session.observation.done:
                    break
            if len(taken) > 1:
                session.observation = Observation(joined(texts), session.observation.done)
            session.place = place
            self._remember(session)

    def _remember(self, session: Session) -> None:
        assert session.place is not None
        assert session.observation is not None
        self._observations.put(session.place, session.observation)
        if session.observation.done:
            self._grades.put(session.place, session.environment.grade())
        elif session.environment.snapshots and session.place not in self._snapshots:
            self._snapshots.put(session.place, (session.environment.snapshot(), session.observation))

    def _put_back(self, session: Session) -> None:
        """Keep an engine for the states after its own; where the episode ended there are none, so for any."""
        assert session.place is not None
        assert session.observation is not None
        if session.observation.done:
            session.place = None
            self._idle.append(session)
        else:
            self._live[session.name][session.place] = session


def _discard(session: Session) -> None:
    with suppress(Exception):
        session.environment.close()


def describe_request(task: Task, actions: Actions) -> str:
    """Which task, and which action where there is one, for error messages."""
    last = f", action {actions[-1][:QUOTED_CHARACTERS]!r}" if actions else ""
    return f"task {task.id}{last}"

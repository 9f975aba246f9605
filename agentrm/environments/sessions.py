"""Environments as a pure function of (task, actions): served from memory, a live engine, a snapshot, or by replay."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentrm.environments.base import Environment, Grade, Observation, Task
from agentrm.environments.registry import environment_class
from agentrm.errors import EnvironmentFailure, UserError

Actions = tuple[str, ...]
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
    """A live engine in the state after `actions`; `task` is None while it has none."""

    environment: Environment
    task: Task | None = None
    actions: Actions = ()
    observation: Observation | None = None

    def lead(self, task: Task, actions: Actions) -> int:
        """How many of `actions` the engine has already executed, or -1 when it is elsewhere."""
        count = len(self.actions)
        return count if self.task == task and self.actions == actions[:count] else -1


class SessionPool:
    """All environments of one process; synchronous, and bounded in live engines, snapshots and remembered texts.

    The step limit is the caller's. Failures of an engine are raised as EnvironmentFailure and cost only that engine.
    """

    def __init__(self, max_sessions: int = 32, max_snapshots: int = 512, max_memories: int = 20_000) -> None:
        self._max_sessions = max_sessions
        self._sessions: list[Session] = []  # least recently used first
        self._snapshots: LRU[tuple[Task, Actions], tuple[Any, Observation]] = LRU(max_snapshots)
        self._observations: LRU[tuple[Task, Actions], Observation] = LRU(max_memories)
        self._grades: LRU[tuple[Task, Actions], Grade] = LRU(max_memories)
        self.counters = dict.fromkeys(("steps", "replayed", "resets", "restores", "live_hits", "memory_hits"), 0)

    def open(self, name: str) -> None:
        """Start an engine of this environment, unless one is live. Raises UserError when it cannot be had here."""
        if not any(session.environment.name == name for session in self._sessions):
            self._acquire(name)

    def observe(self, task: Task, actions: Actions) -> Observation:
        """The observation after `actions`; () is the first one. Raises UserError past the end of an episode."""
        known = self._observations.use((task, actions))
        if known is not None:
            self.counters["memory_hits"] += 1
            return known
        return self._at(task, actions, lambda session: session.observation)

    def grade(self, task: Task, actions: Actions) -> Grade:
        """The hidden truth of the state after `actions`."""
        known = self._grades.use((task, actions))
        if known is None:
            known = self._at(task, actions, lambda session: session.environment.grade())
            self._grades.put((task, actions), known)
        return known

    def expert_actions(self, task: Task) -> list[str]:
        """The oracle's actions from the first observation to success, or []."""
        return self._at(task, (), lambda session: session.environment.expert_actions())

    def admissible_actions(self, task: Task, actions: Actions) -> list[str]:
        """What the engine accepts in the state after `actions`, for people and tests."""
        return self._at(task, actions, lambda session: session.environment.admissible_actions())

    def close(self) -> None:
        """Close every engine; the pool can be used again."""
        while self._sessions:
            self._sessions.pop().environment.close()

    def _at(self, task: Task, actions: Actions, read: Callable[[Session], Any]) -> Any:
        """Read something off a live engine in the state after `actions`."""
        session = self._nearest(task, actions)
        try:
            self._advance(session, task, actions)
            return read(session)
        except UserError:
            raise
        except Exception as error:
            self._discard(session)
            text = f"{task.environment} failed with {error!r}: {describe_request(task, actions)}"
            raise EnvironmentFailure(text) from error

    def _nearest(self, task: Task, actions: Actions) -> Session:
        """The engine to use: a live one on the way to the state, one restored from a snapshot, or a fresh one."""
        live = max(self._sessions, key=lambda session: session.lead(task, actions), default=None)
        lead = live.lead(task, actions) if live else -1
        if live and lead >= max(len(actions) - 1, 0):
            self.counters["live_hits"] += 1
            return self._touch(live)
        for count in range(len(actions), lead, -1):
            found = self._snapshots.use((task, actions[:count]))
            if found is not None:
                session = self._acquire(task.environment)
                state, observation = found
                session.environment.restore(state)
                session.task, session.actions, session.observation = task, actions[:count], observation
                self.counters["restores"] += 1
                return session
        return self._touch(live) if live and lead >= 0 else self._acquire(task.environment)

    def _acquire(self, name: str) -> Session:
        """A new engine where the bounds allow one more, else the least recently used one of this environment."""
        cls = environment_class(name)
        own = [session for session in self._sessions if session.environment.name == name]
        if len(own) >= min(cls.max_live, self._max_sessions):
            session = self._touch(own[0])
            session.task = None
            return session
        if len(self._sessions) >= self._max_sessions:
            self._discard(self._sessions[0])
        session = Session(cls())
        self._sessions.append(session)
        return session

    def _advance(self, session: Session, task: Task, actions: Actions) -> None:
        environment = session.environment
        if session.lead(task, actions) < 0:
            session.task = None
            session.observation = environment.reset(task)
            session.task, session.actions = task, ()
            self.counters["resets"] += 1
            self._remember(session)
        while len(session.actions) < len(actions):
            assert session.observation is not None
            if session.observation.done:
                ended = f"the episode ended after {len(session.actions)} of {len(actions)} actions"
                raise UserError(f"{ended}: {describe_request(task, session.actions)}")
            following = actions[: len(session.actions) + 1]
            self.counters["replayed"] += (task, following) in self._observations
            # A failing step leaves the engine in no known state.
            session.task = None
            session.observation = environment.step(following[-1])
            session.task, session.actions = task, following
            self.counters["steps"] += 1
            self._remember(session)

    def _remember(self, session: Session) -> None:
        assert session.task is not None
        assert session.observation is not None
        key = session.task, session.actions
        self._observations.put(key, session.observation)
        if session.environment.snapshots and key not in self._snapshots:
            self._snapshots.put(key, (session.environment.snapshot(), session.observation))

    def _touch(self, session: Session) -> Session:
        self._sessions.remove(session)
        self._sessions.append(session)
        return session

    def _discard(self, session: Session) -> None:
        self._sessions.remove(session)
        with suppress(Exception):
            session.environment.close()


def describe_request(task: Task, actions: Actions) -> str:
    """Which task, and which action where there is one, for error messages."""
    last = f", action {actions[-1][:QUOTED_CHARACTERS]!r}" if actions else ""
    return f"task {task.id}{last}"

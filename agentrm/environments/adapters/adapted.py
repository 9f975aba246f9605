"""What the adapters to other projects' environments share: tasks by seed, and an outcome made of rewards."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.base import Environment
from agentrm.environments.support import check_kind, digest


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine says to an action."""

    text: str
    reward: float = 0.0
    done: bool = False


class AdaptedEnvironment(Environment):
    """An engine with seeds and rewards, to be described by a subclass; its kinds are the keys of `levels`.

    Task `index` of a split starts the engine with the seed `seeds[split][index]`; each universe (`task.seed`) moves on
    by the span of all of them, so that no two tasks of a kind share a seed. An engine that draws the same instance for
    two seeds needs `seeds` of the subclass's own, or its splits overlap.

    Outcome is made of the rewards by `outcome`, progress its maximum so far. The engine's state is not seen, so the
    fingerprint is that of the history; there is no oracle unless the subclass brings one.
    """

    levels: ClassVar[Mapping[str, Mapping[str, Any]]]
    seeds: ClassVar[Mapping[str, range]] = {
        "train": range(10_000),
        "valid": range(10_000, 10_500),
        "test": range(10_500, 11_000),
    }

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "levels" in vars(cls):
            cls.kinds = tuple(cls.levels)

    def __init__(self) -> None:
        self._task: Task | None = None
        self._history: list[tuple[str, Answer]] = []
        self._total = 0.0
        self._progress = 0.0

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        check_kind(cls.name, cls.kinds, kind, split)
        return len(cls.seeds[split])

    def outcome(self, total: float) -> float:
        """The outcome in [0, 1], 1 when solved, from the sum of all rewards so far."""
        return min(max(total, 0.0), 1.0)

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self._task, self._history, self._total, self._progress = None, [], 0.0, 0.0
        span = max(seeds.stop for seeds in self.seeds.values())
        answer = self._start(self.levels[task.kind], task.seed * span + self.seeds[task.split][task.index])
        self._task = task
        return Observation(answer.text, answer.done)

    def step(self, action: str) -> Observation:
        answer = self._execute(action)
        self._history.append((action, answer))
        self._total += answer.reward
        self._progress = max(self._progress, self.outcome(self._total))
        return Observation(answer.text, answer.done)

    def grade(self) -> Grade:
        outcome = self.outcome(self._total)
        return Grade(outcome=outcome, progress=self._progress, success=outcome >= 1)

    def expert_actions(self) -> list[str]:
        return []

    def admissible_actions(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return digest(self._task, self._history)

    @abstractmethod
    def _start(self, level: Mapping[str, Any], seed: int) -> Answer:
        """Begin the episode that a seed draws in a level."""

    @abstractmethod
    def _execute(self, action: str) -> Answer:
        """Give an action to the engine."""

"""What the toolkits and the episodes of ToolOperation share: a state of plain values, the facts of it that a task asks
for, and how far an episode has come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

from agentrm.core.task import Grade
from agentrm.environments.tools.reference import same_number
from agentrm.environments.tools.toolkit import Toolkit

Facts = dict[tuple[Any, ...], Any]


class OperationToolkit(Toolkit):
    """Tools that change a world."""

    @classmethod
    def of(cls, state: Any) -> Self:
        """A toolkit in a saved state."""
        raise NotImplementedError

    def save(self) -> Any:
        """All that there is, as plain values: equal worlds give equal values."""
        raise NotImplementedError

    def facts(self) -> Facts:
        """What a task can ask for, each thing under a name."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the world."""
        raise NotImplementedError


def distance(facts: Facts, goal: Facts) -> int:
    """How many things are not as they should be; numbers within 0.01 are the same."""
    return sum(not _same(facts.get(key), goal.get(key)) for key in facts.keys() | goal.keys())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return same_number(one, other)
    return one == other


@dataclass(frozen=True, slots=True)
class Marks:
    """How far an episode has come: what was `reached`, in the episode's own terms, whether the agent has `finished`,
    and whether what it then left or answered was `right`.
    """

    reached: Any = 0
    finished: bool = False
    right: bool = False


class OperationEpisode(Protocol):
    """What is asked for, in which world, and how it is judged; `opening` is what the agent reads behind the goal."""

    @property
    def goal(self) -> str: ...

    @property
    def opening(self) -> str: ...

    @property
    def actions(self) -> tuple[str, ...]: ...

    def kit(self, world: Any = None) -> OperationToolkit:
        """The tools in a saved world, by default in the first one."""
        ...

    def note(self, marks: Marks, kit: OperationToolkit, name: str, arguments: dict[str, Any], text: str) -> Marks:
        """The marks after a call that went well and what the agent read of it."""
        ...

    def over(self, marks: Marks) -> bool:
        """Whether the episode has ended."""
        ...

    def grade(self, marks: Marks) -> Grade:
        """The true reward."""
        ...

"""What the toolkits of ToolOperation share: a state of plain values, and the facts of it that a task asks for."""

from __future__ import annotations

from typing import Any, Self

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

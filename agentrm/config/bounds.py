"""Bounds that the schema's fields carry, and the check of a configuration against them and its groups' rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, is_dataclass
from math import inf
from typing import Any

from agentrm.core.errors import UserError

_BOUND = "bound"


@dataclass(frozen=True, slots=True)
class Bound:
    """What a value must be, as a test and in words; None is always allowed."""

    holds: Callable[[Any], bool]
    words: str

    def __call__(self, default: Any) -> Any:
        """A dataclass field of this default that carries the bound."""
        return field(default=default, metadata={_BOUND: self})


positive = Bound(lambda value: value > 0, "above 0")
not_negative = Bound(lambda value: 0 <= value < inf, "0 or more")
share = Bound(lambda value: 0 <= value <= 1, "from 0 to 1")
positive_share = Bound(lambda value: 0 < value <= 1, "above 0 and at most 1")
share_below_one = Bound(lambda value: 0 <= value < 1, "at least 0 and below 1")
inner_share = Bound(lambda value: 0 < value < 1, "between 0 and 1")


def one_of(*choices: Any) -> Bound:
    """A value among some."""
    *first, last = map(str, choices)
    return Bound(lambda value: value in choices, f"{', '.join(first)} or {last}")


def check(group: Any, key: str = "") -> None:
    """Raise UserError that names the key for a value out of its bound, or against the `check` of its group.

    `group` is a dataclass of the schema, `key` where it stands in the configuration.
    """
    for declared in fields(group):
        name, value = f"{key}.{declared.name}" if key else declared.name, getattr(group, declared.name)
        bound = _bound(declared)
        if bound is not None and value is not None and not bound.holds(value):
            raise UserError(f"the key {name} is {value}: it must be {bound.words}")
        for number, item in enumerate(value if isinstance(value, list) else ()):
            if is_dataclass(item):
                check(item, f"{name}[{number}]")
        if is_dataclass(value):
            check(value, name)
    if hasattr(group, "check"):
        group.check(key)


def _bound(declared: Field[Any]) -> Bound | None:
    return declared.metadata.get(_BOUND)

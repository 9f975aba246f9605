"""Drawing tasks: a template makes the calls that solve it, and computes the answer from what they return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, TypeVar

from agentrm.environments.tools.toolkit import Toolkit, write_action

Answer = str | float | Sequence[str | float]
Item = TypeVar("Item")


class Unfit(Exception):
    """The draw gives no well-posed task (a tie, an empty list): draw again."""


class Reference:
    """The reference solution of a task: its calls are executed on the toolkit, kept, and their results returned."""

    def __init__(self, toolkit: Toolkit) -> None:
        self.toolkit = toolkit
        self.actions: list[str] = []

    def __call__(self, tool: str, /, **arguments: Any) -> Any:
        action = write_action(tool, arguments)
        result = self.toolkit.run(*self.toolkit.parse(action))
        self.actions.append(action)
        return result


Question = tuple[str, Answer]
Template = Callable[[Reference, Random], Question]


def best(items: Iterable[Item], key: Callable[[Item], Any], *, least: bool = False) -> Item:
    """The one item with the largest (or least) key. Raises Unfit when none or several have it."""
    ranked = sorted(items, key=key, reverse=not least)
    if not ranked or (len(ranked) > 1 and key(ranked[0]) == key(ranked[1])):
        raise Unfit
    return ranked[0]


def some(items: Iterable[Item]) -> list[Item]:
    """All items. Raises Unfit when there is none."""
    all_items = list(items)
    if not all_items:
        raise Unfit
    return all_items


def same_answer(given: Answer, expected: Answer) -> bool:
    """Whether two answers say the same: lists in any order, text in any case, numbers within 0.01.

    A number may be written as text, and a list of one item stands for the item.
    """
    ours, theirs = _items(given), _items(expected)
    return len(ours) == len(theirs) and all(map(_same, ours, theirs))


def _items(answer: Answer) -> list[str | float]:
    items = [_plain(item) for item in ([answer] if isinstance(answer, str | float | int) else answer)]
    return sorted(items, key=lambda item: (isinstance(item, str), item))


def _plain(item: str | float) -> str | float:
    text = " ".join(str(item).casefold().split())
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _same(one: str | float, other: str | float) -> bool:
    return one == other if isinstance(one, str) or isinstance(other, str) else same_number(one, other)


def same_number(one: float, other: float) -> bool:
    """Whether two numbers are at most 0.01 apart."""
    # A hair more, so that 0.01 apart in decimals is within it in binary too.
    return abs(one - other) <= 0.01 + 1e-6

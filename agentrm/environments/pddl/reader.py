"""PDDL problems as people write them: read whole, or refused with the line and the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyperplan.pddl.pddl import Domain, Predicate, Problem, Type

WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""A name that an action can hold."""

_TOKEN = re.compile(r"[()]|[^()\s]+")
_LINE_END = re.compile(r"\r\n?|\n")
# What says how to search or what a plan costs, not what is asked for.
_UNREAD = (":requirements", ":metric", ":length")
_CONNECTIVES = ("not", "or", "imply", "forall", "exists", "when", "preference", "=")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class _List:
    line: int
    items: list[_Word | _List] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The first word, "" where a list is empty or begins with another."""
        first = self.items[0] if self.items else None
        return first.text if isinstance(first, _Word) else ""


def read_problem(text: str, domain: Domain) -> Problem:
    """The problem in a text. Raises ValueError that begins with the line, for what is no problem of the domain and for
    what cannot be played: goals other than facts that hold together, and objects of several types.
    """
    whole = _parse(text)
    sections = {item.head: item for item in whole.items if isinstance(item, _List)}
    for name, section in sections.items():
        if name not in ("problem", ":domain", ":objects", ":init", ":goal", *_UNREAD):
            raise _error(section, f"({name or '...'} is no part of a problem that can be read")
    if whole.head != "define" or "problem" not in sections:
        raise _error(whole, "no (define (problem ...) ...)")
    for name in (":domain", ":init", ":goal"):
        if name not in sections:
            raise _error(whole, f"the problem has no ({name} ...)")
    [named] = _words(sections[":domain"], 1)
    if named.text != domain.name:
        raise _error(named, f"a problem of the domain {named.text}, not of {domain.name}")
    objects = _objects(sections[":objects"], domain) if ":objects" in sections else {}
    known = objects | domain.constants
    initial = [_fact(fact, domain, known) for fact in _initial(sections[":init"])]
    goal = [_fact(fact, domain, known) for fact in _goal(_only(sections[":goal"]))]
    return Problem("problem", domain, objects, initial, goal)


def _parse(text: str) -> _List:
    """The one list of a text; comments and case are gone. Some published problems close a bracket too many."""
    open_lists: list[_List] = []
    whole: _List | None = None
    for token in _tokens(text):
        if token.text == ")":
            if open_lists:
                open_lists.pop()
            elif whole is None:
                raise _error(token, "a bracket is closed that was not opened")
            continue
        if whole is not None and not open_lists:
            raise _error(token, f"{token.text} stands behind the end of the problem")
        if token.text != "(" and not open_lists:
            raise _error(token, f"{token.text} stands outside of brackets")
        item = _List(token.line) if token.text == "(" else token
        if open_lists:
            open_lists[-1].items.append(item)
        if isinstance(item, _List):
            whole = whole or item
            open_lists.append(item)
    if open_lists:
        raise _error(open_lists[-1], "this bracket is not closed")
    if whole is None:
        raise ValueError("line 1: it is empty")
    return whole


def _tokens(text: str) -> Iterator[_Word]:
    for number, line in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), start=1):
        for token in _TOKEN.findall(line.partition(";")[0].lower()):
            yield _Word(token, number)


def _objects(section: _List, domain: Domain) -> dict[str, Type]:
    objects: dict[str, Type] = {}
    waiting: list[_Word] = []
    items = iter(section.items[1:])

    def declare(type_name: str) -> None:
        for word in waiting:
            own = domain.types[type_name]
            if (objects | domain.constants).get(word.text, own) is not own:
                raise _error(word, f"{word.text} has another type already")
            objects[word.text] = own
        waiting.clear()

    for item in items:
        if isinstance(item, _List):
            raise _error(item, "a list among the objects")
        if item.text != "-":
            if not WORD.fullmatch(item.text):
                raise _error(item, f"{item.text} is no name of an object: letters, digits, - and _ can be typed")
            waiting.append(item)
            continue
        of = next(items, item)
        if isinstance(of, _List):
            raise _error(of, "objects of several types (either ...) cannot be played: give one type")
        if of.text not in domain.types:
            raise _error(of, f"there is no type {of.text}: {domain.name} has {', '.join(sorted(domain.types))}")
        declare(of.text)
    declare("object")
    return objects


def _initial(section: _List) -> Iterator[_List]:
    """The facts that hold; what is said not to hold and what things cost is left."""
    for item in section.items[1:]:
        fact = _list(item)
        costs = fact.head == "=" and any(isinstance(part, _List) for part in fact.items)
        if fact.head != "not" and not costs:
            yield fact


def _goal(condition: _List) -> Iterator[_List]:
    """The facts of a conjunction, and of those in it."""
    left = [condition]
    while left:
        item = left.pop()
        if item.head in _CONNECTIVES:
            raise _error(item, f"the goal holds ({item.head} ...): only facts, joined by `and`, can be played")
        if item.head == "and":
            left += map(_list, item.items[1:])
        else:
            yield item


def _fact(item: _List, domain: Domain, objects: dict[str, Type]) -> Predicate:
    predicate = domain.predicates.get(item.head)
    if predicate is None:
        raise _error(item, f"it has no {item.head or '()'}: {domain.name} has {', '.join(sorted(domain.predicates))}")
    names = _words(item, len(predicate.signature))
    for name, (_, types) in zip(names, predicate.signature, strict=True):
        if name.text not in objects:
            raise _error(name, f"there is no object {name.text}")
        if not any(_is_a(objects[name.text], option) for option in types):
            wanted = " or ".join(option.name for option in types)
            raise _error(
                name, f"{name.text} in ({item.head} ...) is of the type {objects[name.text].name}, not {wanted}"
            )
    return Predicate(item.head, [(name.text, objects[name.text]) for name in names])


def _is_a(own: Any, wanted: Type) -> bool:
    while own is not None and own is not wanted:
        own = own.parent
    return own is not None


def _words(item: _List, count: int) -> list[_Word]:
    """The words behind a list's head."""
    words = [word for word in item.items[1:] if isinstance(word, _Word)]
    if len(words) != count or len(item.items) != count + 1:
        raise _error(item, f"({item.head} ...) takes {count} names")
    return words


def _only(section: _List) -> _List:
    if len(section.items) != 2:
        raise _error(section, f"({section.head} ...) takes one condition")
    return _list(section.items[1])


def _list(item: _Word | _List) -> _List:
    if isinstance(item, _Word):
        raise _error(item, f"{item.text} stands where a fact should")
    return item


def _error(item: _Word | _List, reason: str) -> ValueError:
    return ValueError(f"line {item.line}: {reason}")

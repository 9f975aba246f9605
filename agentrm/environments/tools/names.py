"""Names for seeded worlds; invented, so that nothing a language model knows answers a question about them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from random import Random

import yaml

_words = yaml.safe_load((files(__package__) / "words.yaml").read_text(encoding="utf-8"))
FIRST: list[str] = _words["first_names"]
LAST: list[str] = _words["last_names"]
TOPICS: list[str] = _words["topics"]
MOTIFS: list[str] = _words["motifs"]
_PLACE_STARTS: list[str] = _words["place_starts"]
_PLACE_ENDS: list[str] = _words["place_ends"]
COUNTRIES = ("Avaria", "Belmark", "Corsina", "Drovia", "Elstria", "Fenland", "Garonia", "Hestoria")


def people(random: Random, count: int) -> list[str]:
    """Distinct full names."""
    return _distinct(count, lambda: f"{random.choice(FIRST)} {random.choice(LAST)}")


def places(random: Random, count: int) -> list[str]:
    """Distinct names of towns."""
    return _distinct(count, lambda: random.choice(_PLACE_STARTS) + random.choice(_PLACE_ENDS))


def titles(random: Random, count: int, *parts: tuple[str, ...] | list[str]) -> list[str]:
    """Distinct titles, each made of one choice from every part."""
    return _distinct(count, lambda: " ".join(random.choice(part) for part in parts))


def _distinct(count: int, draw: Callable[[], str]) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        names[draw()] = None
    return list(names)

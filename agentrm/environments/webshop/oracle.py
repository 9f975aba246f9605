"""The WebShop oracle: knows what earns the full reward, and searches with words that the request gives away."""

from __future__ import annotations

from collections.abc import Iterator

from agentrm.environments.webshop.catalogue import Catalogue, terms
from agentrm.environments.webshop.goals import Goal, best_options, fits
from agentrm.environments.webshop.pages import BUY, NEXT, Session

PAGES_LOOKED_AT = 2


def ways(catalogue: Catalogue, goal: Goal) -> Iterator[list[str]]:
    """Ways to a purchase with full reward, most like a shopper's first: by page of results, then by search."""
    for number in range(1, PAGES_LOOKED_AT + 1):
        for query in _queries(goal):
            if way := _way(catalogue, goal, query, number):
                yield way


def _queries(goal: Goal) -> Iterator[str]:
    asked = _words(goal.instruction)
    named = [word for word in _words(goal.title) if word in asked] or [goal.query]
    # Each word once, in the order of its first mention.
    words = list(dict.fromkeys(_words(" ".join((*goal.attributes, *named)))))
    yield " ".join((*words, *goal.options))
    yield " ".join(words)
    yield goal.title


def _words(text: str) -> list[str]:
    """The words that the index would search for, as they are written."""
    return [word.strip(",.()?") for word in text.lower().split() if terms(word)]


def _way(catalogue: Catalogue, goal: Goal, query: str, number: int) -> list[str]:
    """Actions that buy from this page of results what the request was written for, else the first that fits, or []."""
    shown = Session(page="results", results=catalogue.search(query), number=number).shown(catalogue)
    fitting = [asin for asin in shown if fits(catalogue.products[asin], goal)]
    if not fitting:
        return []
    asin = goal.asin if goal.asin in fitting else fitting[0]
    options = best_options(catalogue.products[asin], goal).values()
    clicks = [*[NEXT] * (number - 1), asin, *options, BUY]
    return [f"search[{query}]", *(f"click[{name}]" for name in clicks)]

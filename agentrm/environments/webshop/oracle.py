"""The WebShop oracle: knows what earns the full reward, and searches with words that the request gives away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentrm.environments.support import at_least
from agentrm.environments.webshop.catalogue import Catalogue, terms
from agentrm.environments.webshop.goals import Goal, attribute_matches, best_options, fits
from agentrm.environments.webshop.pages import BUY, NEXT, PREVIOUS, Session, buttons, parse

PAGES_LOOKED_AT = 2


def ways(catalogue: Catalogue, goal: Goal) -> Iterator[list[str]]:
    """Ways to a purchase with full reward, most like a shopper's first: by page of results, then by search.

    In a `brief` shop the one way is that of a shopper who knows what was read alone.
    """
    if catalogue.brief:
        yield _looking_around(catalogue, goal)
        return
    for number in range(1, PAGES_LOOKED_AT + 1):
        for query in _queries(goal):
            if way := _way(catalogue, goal, query, number):
                yield way


def thought(catalogue: Catalogue, session: Session, goal: Goal, plan: Sequence[str]) -> str:
    """What the oracle thinks before a plan: of products only what their page, or the page of results, has told.

    In a `brief` shop it is which options that are asked for the product has, when it first sees its page, and how many
    actions are left at least.
    """
    if not catalogue.brief:
        return _aloud(catalogue, session, plan)
    purchase = len(goal.options) + 1
    if session.page != "item":
        return at_least(purchase + 1 + (session.page == "search"))
    if session.options:
        return at_least(purchase - len(session.options))
    offered = {value for values in catalogue.products[session.asin].options.values() for value in values}
    told = ", ".join(f"{option}: {'yes' if option in offered else 'no'}" for option in goal.options)
    # Back to the results, and to another product.
    return f"{told}. {at_least(purchase if offered >= {*goal.options} else purchase + 2)}"


def _aloud(catalogue: Catalogue, session: Session, plan: Sequence[str]) -> str:
    """What a shopper does next, and why."""
    command = parse(plan[0])
    if command is None:
        return ""
    verb, argument = command
    if verb == "search":
        return "I search for the words of the request that a product's page may have; its price cannot be searched."
    name = next((button for button in buttons(catalogue, session) if button.lower() == argument), argument)
    if name == NEXT:
        return "I do not see what is asked for on this page, so I look at the next one."
    if name == BUY:
        product, chosen = catalogue.products[session.asin], ", ".join(session.options.values())
        have = f"I have chosen {chosen}" if chosen else "There is nothing to choose"
        return f"{have}, and {product.price_tag} is what it costs. This is what was asked for, so I buy it."
    if session.page == "results":
        product = catalogue.products[name.upper() if name.upper() in catalogue.products else name]
        return f"{product.title} for {product.price_tag} is most like what is asked for. I look at it."
    option = next((key for key, values in catalogue.products[session.asin].options.items() if name in values), "")
    return f"The request names {name}, which can be chosen here as {option}." if option else ""


def _looking_around(catalogue: Catalogue, goal: Goal) -> list[str]:
    """Look at the products that the list shows to be right but for their options, one after another, and buy the first
    that has these.
    """
    query = goal.query
    actions = [f"search[{query}]"]
    for asin in Session(page="results", results=catalogue.search(query)).shown(catalogue):
        product = catalogue.products[asin]
        if attribute_matches(product, goal) < len(goal.attributes) or product.price > goal.price_upper:
            continue
        actions.append(f"click[{asin}]")
        if fits(product, goal):
            return [*actions, *(f"click[{option}]" for option in goal.options), f"click[{BUY}]"]
        actions.append(f"click[{PREVIOUS}]")
    return []


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

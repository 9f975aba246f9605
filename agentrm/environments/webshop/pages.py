"""The shop's pages: where a session stands, what can be clicked there, and the text that is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from agentrm.environments.webshop.catalogue import Catalogue, Product

SEPARATOR, BRIEF_SEPARATOR = " [SEP] ", " | "
BACK, PREVIOUS, NEXT, BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
SUBPAGES = ("Description", "Features", "Reviews")
_ACTION = re.compile(r"\s*(search|click)\s*\[(.*)\]\s*", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Session:
    """Where the shopper stands: `page` is search, results, item, one of SUBPAGES, or done.

    `results` are asins, `number` counts result pages from 1, `asin` and `options` are the product looked at and what
    is chosen of it.
    """

    page: str = "search"
    results: tuple[str, ...] = ()
    number: int = 1
    asin: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def shown(self, catalogue: Catalogue) -> tuple[str, ...]:
        """The asins on the present page of results."""
        return self.results[(self.number - 1) * catalogue.per_page : self.number * catalogue.per_page]


def parse(action: str) -> tuple[str, str] | None:
    """(search, keywords) or (click, button in lower case), or None for anything else."""
    match = _ACTION.fullmatch(action)
    if match is None or not match[2].strip():
        return None
    return match[1].lower(), " ".join(match[2].lower().split())


def buttons(catalogue: Catalogue, session: Session) -> dict[str, Session]:
    """Every button of the page, as it is written there, with the session after its click."""
    if session.page in ("search", "done"):
        return {}
    sessions = {BACK: Session()}
    if session.page == "results":
        if session.number > 1:
            sessions[PREVIOUS] = replace(session, number=session.number - 1)
        if session.number * catalogue.per_page < len(session.results):
            sessions[NEXT] = replace(session, number=session.number + 1)
        return sessions | {
            asin: replace(session, page="item", asin=asin, options={}) for asin in session.shown(catalogue)
        }
    if session.page in SUBPAGES:
        return sessions | {PREVIOUS: replace(session, page="item")}
    sessions[PREVIOUS] = replace(session, page="results", asin="", options={})
    for name, values in catalogue.products[session.asin].options.items():
        sessions |= {value: replace(session, options=session.options | {name: value}) for value in values}
    if not catalogue.brief:
        sessions |= {page: replace(session, page=page) for page in SUBPAGES}
    return sessions | {BUY: replace(session, page="done")}


def render(catalogue: Catalogue, session: Session, instruction: str) -> str:
    """The page as text, its parts between separators, in the original's simple form; a `brief` shop has shorter ones.

    The page after a purchase does not tell the reward, which the original prints there.
    """
    if catalogue.brief:
        return BRIEF_SEPARATOR.join(_brief(catalogue, session, instruction))
    head = ["Instruction:", instruction]
    if session.page == "search":
        return SEPARATOR.join(["WebShop", *head, "Search"])
    if session.page == "done":
        return SEPARATOR.join(["Thank you for shopping with us!", "Purchased", session.asin])
    if session.page == "results":
        return SEPARATOR.join(head + _results(catalogue, session))
    product = catalogue.products[session.asin]
    body = _item(product) if session.page == "item" else _subpage(product, session.page)
    return SEPARATOR.join([*head, BACK, PREVIOUS, *body])


def clicked(catalogue: Catalogue, session: Session, instruction: str, option: str) -> str:
    """What is read when an option of a product was clicked: the product's page again, but not in a `brief` shop."""
    told = f"You have clicked {option}."
    return told if catalogue.brief else SEPARATOR.join([told, render(catalogue, session, instruction)])


def _brief(catalogue: Catalogue, session: Session, instruction: str) -> list[str]:
    if session.page == "search":
        return [instruction, "Search"]
    if session.page == "done":
        return ["Purchased", session.asin]
    shown = [name for name in buttons(catalogue, session) if name in (BACK, PREVIOUS, NEXT)]
    if session.page == "results":
        listed = [catalogue.products[asin] for asin in session.shown(catalogue)]
        return [*shown, *(part for item in listed for part in (item.asin, item.title, item.price_tag))]
    product = catalogue.products[session.asin]
    options = [part for name, values in product.options.items() for part in (name, *values)]
    return [instruction, *shown, product.title, product.price_tag, *options, BUY]


def _results(catalogue: Catalogue, session: Session) -> list[str]:
    parts = [BACK, f"Page {session.number} (Total results: {len(session.results)})"]
    parts += [button for button in (PREVIOUS, NEXT) if button in buttons(catalogue, session)]
    for asin in session.shown(catalogue):
        product = catalogue.products[asin]
        parts += [asin, product.title, product.price_tag]
    return parts


def _item(product: Product) -> list[str]:
    parts = [part for name, values in product.options.items() for part in (name, *values)]
    parts += [product.title, f"Price: {product.price_tag}", f"Rating: {product.rating}"]
    return [*parts, *SUBPAGES, BUY]


def _subpage(product: Product, page: str) -> list[str]:
    if page == "Description":
        return [product.description or "No description found"]
    if page == "Features":
        return list(product.features) or ["No features found"]
    return list(product.reviews) or ["No reviews found"]

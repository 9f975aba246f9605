"""A seeded shop: products drawn from the vocabulary, and shopping requests for them in a person's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from random import Random
from string import capwords
from typing import Any

import yaml

from agentrm.core.task import Task
from agentrm.environments.support import derive_seed, digest, split_of
from agentrm.environments.webshop import SMALL
from agentrm.environments.webshop.catalogue import Catalogue, Product
from agentrm.environments.webshop.goals import Goal, price_limit

PRODUCTS_PER_TYPE, SMALL_PER_TYPE = 100, 40
SMALL_POOL, SMALL_VALUES = 6, 3
_LEAD = re.compile(r"(an?|some)( (?:pair|box|bag|jar|bottle|pack) of)? ")
_OPENINGS = (
    "i am looking for", "i need", "i want to buy", "find me", "can you find me", "show me", "i would like",
    "i'm shopping for", "please help me find", "looking for", "hi, i am searching for", "get me",
)  # fmt: skip
_INLINE = {
    "color": "in {}",
    "size": "in size {}",
    "scent": "with {} scent",
    "flavor name": "in {} flavor",
    "style": "in the {} style",
    "fit type": "for {}",
}
_SENTENCES = {
    "before": (
        "{Attribute}: you will not want a {noun} that is not.",
        "Our {noun} is {attribute}.",
        "It is {attribute}.",
    ),
    "having": ("Made with {attribute}.", "{Attribute} included.", "You get {attribute} with every order."),
    "purposes": ("Great for {attribute}.", "Designed for {attribute}.", "Many buyers use it for {attribute}."),
}
_DESCRIPTIONS = (
    "{brand} makes one thing well: this {noun}. {facts}",
    "Meet the {noun} by {brand}. {facts} Write to us if anything is wrong, we answer within a day.",
    "{facts} Every {brand} {noun} is checked by hand before it ships.",
)
_REVIEWS = (
    "As described, the {noun} came in two days.",
    "Second time that I buy this {noun}. {Attribute}, as they say.",
    "It is okay, but I have had a better {noun} from others.",
    "Bought the {noun} as a present and she loves it.",
)


@dataclass(frozen=True, slots=True)
class Listing:
    """A generated product, what one of it is called, and which of its attributes stand where in a sentence."""

    product: Product
    name: str
    positions: dict[str, tuple[str, ...]]


def catalogue(kind: str) -> Catalogue:
    """The generated shop of a kind, built once in a process: a small one, or the one of all others."""
    return _catalogue(_small(kind))


@lru_cache(maxsize=4096)
def generated_goal(task: Task) -> Goal:
    """The request of a task: for a product that belongs to the task's split by its title."""
    rng = Random(derive_seed(task.environment, task.seed, task.kind, task.split, task.index))
    listing = rng.choice(_shelf(task.kind, task.split))
    product = listing.product
    wanted = rng.sample(product.attributes, rng.randint(1, min(3, len(product.attributes))))
    positions = {
        position: [attribute for attribute in own if attribute in wanted] for position, own in listing.positions.items()
    }
    options = {name: rng.choice(values) for name, values in product.options.items() if rng.random() < 0.85}
    price_upper, price_text = price_limit(rng, product.price)
    return Goal(
        instruction=_request(rng, listing.name, positions, options) + price_text,
        asin=product.asin,
        title=product.title,
        query=product.query,
        path=product.path,
        attributes=tuple(attribute for own in positions.values() for attribute in own),
        options=tuple(options.values()),
        price_upper=price_upper,
    )


@cache
def _vocabulary() -> dict[str, Any]:
    return yaml.safe_load(files("agentrm.environments.webshop").joinpath("vocabulary.yaml").read_text("utf-8"))


def _small(kind: str) -> str:
    """The category that a small shop sells; "" for the large one."""
    return kind.removesuffix(SMALL) if kind.endswith(SMALL) else ""


@cache
def _catalogue(small: str) -> Catalogue:
    return Catalogue([listing.product for listing in (_small_listings(small) if small else _listings())], bool(small))


@cache
def _small_listings(category: str) -> tuple[Listing, ...]:
    """All products of a small shop, types mixed, numbered as they stand; titles are unique."""
    drawn = [
        _draw_small(category, query, row, Random(derive_seed("webshop", SMALL, query, number)))
        for query, row in _vocabulary()["categories"][category].items()
        for number in range(SMALL_PER_TYPE)
    ]
    unique = {listing.product.title: listing for listing in drawn}
    mixed = sorted(unique.values(), key=lambda listing: digest(listing.product.title))
    return tuple(
        replace(listing, product=replace(listing.product, asin=f"B{number:03}")) for number, listing in enumerate(mixed)
    )


@cache
def _listings() -> tuple[Listing, ...]:
    """All products, types mixed; titles are unique."""
    drawn = [
        _draw(category, query, row, Random(derive_seed("webshop", query, number)))
        for category, rows in _vocabulary()["categories"].items()
        for query, row in rows.items()
        for number in range(PRODUCTS_PER_TYPE)
    ]
    unique = {listing.product.title: listing for listing in drawn}
    return tuple(sorted(unique.values(), key=lambda listing: listing.product.asin))


@cache
def _shelf(kind: str, split: str) -> tuple[Listing, ...]:
    category = _small(kind)
    listings = _small_listings(category) if category else _listings()
    return tuple(
        listing
        for listing in listings
        if listing.product.category == (category or kind) and split_of(listing.product.title) == split
    )


def _attributes(row: dict[str, Any]) -> list[str]:
    """Those that stand before the noun, as a type's row gives or names them."""
    return _vocabulary()["attributes"][row["before"]] if isinstance(row["before"], str) else row["before"]


def _brand(rng: Random) -> str:
    brands = _vocabulary()["brands"]
    return rng.choice(brands["starts"]) + rng.choice(brands["ends"])


def _draw_small(category: str, query: str, row: dict[str, Any], rng: Random) -> Listing:
    before = tuple(rng.sample(_attributes(row), 2))
    name = rng.choice(row["names"])
    options = {}
    for axis in row["options"]:
        pool = _vocabulary()["options"][axis]
        values = pool["values"][:SMALL_POOL]
        kept = set(rng.sample(values, min(SMALL_VALUES, len(values) - 1)))
        options[pool["name"]] = tuple(value for value in values if value in kept)
    price = float(round(rng.uniform(*row["prices"])))
    product = Product(
        asin="",
        title=capwords(" ".join((_brand(rng), *before, _LEAD.sub("", name)))),
        category=category,
        query=query,
        path=tuple(row["path"]),
        description="",
        features=(),
        options=options,
        attributes=before,
        price=price,
        price_tag=f"${price:.0f}",
    )
    return Listing(product, name, {"before": before, "having": (), "purposes": ()})


def _draw(category: str, query: str, row: dict[str, Any], rng: Random) -> Listing:
    vocabulary = _vocabulary()
    positions = {
        "before": tuple(rng.sample(_attributes(row), rng.randint(1, 3))),
        "having": tuple(rng.sample(row["having"], rng.randint(0, 2))),
        "purposes": tuple(rng.sample(row["purposes"], rng.randint(0, 2))),
    }
    attributes = tuple(attribute for own in positions.values() for attribute in own)
    brand = _brand(rng)
    name = rng.choice(row["names"])
    noun = _LEAD.sub("", name)
    shown = [attribute for attribute in attributes if rng.random() < 0.5]
    title = _title(rng, brand, noun, {place: [one for one in own if one in shown] for place, own in positions.items()})
    facts = [
        rng.choice(_SENTENCES[place]).format(Attribute=attribute.capitalize(), attribute=attribute, noun=noun)
        for place, own in positions.items()
        for attribute in own
        if attribute not in shown or rng.random() < 0.5
    ]
    rng.shuffle(facts)
    told = rng.randint(0, len(facts))
    options = {}
    for axis in row["options"]:
        if rng.random() < 0.8:
            pool = vocabulary["options"][axis]
            kept = set(rng.sample(pool["values"], rng.randint(2, min(6, len(pool["values"])))))
            options[pool["name"]] = tuple(value for value in pool["values"] if value in kept)
    price, price_tag = _price(rng, *row["prices"])
    reviews = rng.sample(_REVIEWS, rng.randint(0, 2))
    product = Product(
        asin=f"B0{digest(title)[:8].upper()}",
        title=title,
        category=category,
        query=query,
        path=tuple(row["path"]),
        description=rng.choice(_DESCRIPTIONS).format(brand=brand, noun=noun, facts=" ".join(facts[told:])).strip(),
        features=tuple(facts[:told]),
        options=options,
        attributes=attributes,
        price=price,
        price_tag=price_tag,
        rating=f"{rng.uniform(3.1, 4.9):.1f}" if rng.random() < 0.8 else "N.A.",
        reviews=tuple(text.format(noun=noun, Attribute=attributes[0].capitalize()) for text in reviews),
    )
    return Listing(product, name, positions)


def _title(rng: Random, brand: str, noun: str, shown: dict[str, list[str]]) -> str:
    if rng.random() < 0.5:
        parts = [brand, *shown["before"], noun]
        parts += ["with", " and ".join(shown["having"])] if shown["having"] else []
        parts += ["for", " and ".join(shown["purposes"])] if shown["purposes"] else []
        return capwords(" ".join(parts))
    parts = [f"{brand} {noun}", *shown["having"], *shown["before"]]
    parts += [f"for {purpose}" for purpose in shown["purposes"]]
    return capwords(", ".join(parts))


def _price(rng: Random, low: float, high: float) -> tuple[float, str]:
    """What is paid and what is shown, which is a range now and then, as in the original."""
    price = round(low * (high / low) ** rng.random(), 2)
    if rng.random() < 0.1:
        return price, f"${price * rng.uniform(0.6, 1):.2f} to ${price * rng.uniform(1, 1.5):.2f}"
    return price, f"${price:.2f}"


def _request(rng: Random, name: str, positions: dict[str, list[str]], options: dict[str, str]) -> str:
    opening = rng.choice(_OPENINGS)
    inline = rng.random() < 0.6
    lead = _LEAD.match(name)
    assert lead is not None
    noun = name[lead.end() :]
    if inline:
        noun = " ".join([", ".join(positions["before"]), noun]).strip()
    article = lead[1]
    if article != "some" and not lead[2]:
        article = "an" if noun[0] in "aeiou" else "a"
    text = f"{opening} {article}{lead[2] or ''} {noun}"
    if inline:
        text += f" with {_listed(positions['having'])}" if positions["having"] else ""
        text += f" for {_listed(positions['purposes'])}" if positions["purposes"] else ""
    if rng.random() < 0.5:
        text += "".join(f" {_INLINE[option].format(value)}" for option, value in options.items())
        sentences = []
    else:
        sentences = [f"the {option.removesuffix(' name')} should be {value}" for option, value in options.items()]
    if not inline:
        sentences += [f"it should be {_listed(positions['before'])}"] if positions["before"] else []
        sentences += [f"i want it with {_listed(positions['having'])}"] if positions["having"] else []
        sentences += [f"it is for {_listed(positions['purposes'])}"] if positions["purposes"] else []
    return f"{text}. {', and '.join(sentences)}" if sentences else text


def _listed(words: Sequence[str]) -> str:
    return " and ".join(words)

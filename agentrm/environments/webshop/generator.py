"""A seeded shop: products drawn from the vocabulary, and shopping requests for them in a person's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from itertools import count
from random import Random
from string import capwords
from typing import Any

import yaml

from agentrm.core.task import Task
from agentrm.environments.support import derive_seed, digest, split_of
from agentrm.environments.webshop import SMALL
from agentrm.environments.webshop.catalogue import Catalogue, Product
from agentrm.environments.webshop.goals import Goal, price_limit
from agentrm.environments.webshop.oracle import ways

PRODUCTS_PER_TYPE = 100
# A small shop: how many products, of how many types of a category, with how many values of attribute and options to
# draw from, and how many values of an option a product has; which share of the products that are not meant have the
# attribute that is asked for. The oracle's longest way leaves a step of the environment's ten.
SMALL_PRODUCTS, SMALL_TYPES, SMALL_POOL, SMALL_VALUES, SMALL_ALIKE, SMALL_LONGEST = 4, 4, 4, 2, 0.75, 9
SMALL_OPTIONS = ("color", "size")
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


@cache
def catalogue() -> Catalogue:
    """The large generated shop; one for all tasks, built once in a process."""
    return Catalogue([listing.product for listing in _listings()])


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


@lru_cache(maxsize=4096)
def small_shop(task: Task) -> tuple[Catalogue, Goal]:
    """The shop of a task of a small kind, and its request: the first draw that belongs to the task's split."""
    for draw in count():
        rng = Random(derive_seed(task.environment, task.seed, task.kind, task.split, task.index, draw))
        products, goal = _draw_small(task.kind.removesuffix(SMALL), rng)
        if split_of(repr((products, goal))) != task.split:
            continue
        shop = Catalogue(products, brief=True)
        if len(next(ways(shop, goal))) <= SMALL_LONGEST:
            return shop, goal
    raise AssertionError("draws never end")


@cache
def _vocabulary() -> dict[str, Any]:
    return yaml.safe_load(files("agentrm.environments.webshop").joinpath("vocabulary.yaml").read_text("utf-8"))


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
def _shelf(category: str, split: str) -> tuple[Listing, ...]:
    return tuple(
        listing
        for listing in _listings()
        if listing.product.category == category and split_of(listing.product.title) == split
    )


def _attributes(row: dict[str, Any]) -> list[str]:
    """Those that stand before the noun, as a type's row gives or names them."""
    return _vocabulary()["attributes"][row["before"]] if isinstance(row["before"], str) else row["before"]


def _brand(rng: Random) -> str:
    brands = _vocabulary()["brands"]
    return rng.choice(brands["starts"]) + rng.choice(brands["ends"])


def _draw_small(category: str, rng: Random) -> tuple[list[Product], Goal]:
    """The products of a shop of one type, numbered from 1, and a request that at least one of them meets."""
    row = rng.choice(list(_vocabulary()["categories"][category].values())[:SMALL_TYPES])
    # What it is called is one word, as are the values of its options.
    lead = _LEAD.match(row["names"][0])
    assert lead is not None
    noun = row["names"][0].split()[-1]
    attributes = _attributes(row)[:SMALL_POOL]
    pools = {
        axis: [value for value in _vocabulary()["options"][axis]["values"] if value.isalpha()][:SMALL_POOL]
        for axis in SMALL_OPTIONS
    }
    wanted, asked = rng.choice(attributes), {axis: rng.choice(values) for axis, values in pools.items()}
    price = round(rng.uniform(*row["prices"]))
    limit, price_text = price_limit(rng, price)
    products = []
    for number in range(SMALL_PRODUCTS):
        meant = not number
        attribute = wanted if meant or rng.random() < SMALL_ALIKE else rng.choice(attributes)
        paid = price if meant else rng.randint(1, int(limit) - 1)
        options = {}
        for axis, values in pools.items():
            kept = set(rng.sample(values, SMALL_VALUES))
            if meant and asked[axis] not in kept:
                kept = {asked[axis], *sorted(kept)[1:]}
            options[axis] = tuple(value for value in values if value in kept)
        products.append(
            Product(
                asin="",
                title=capwords(f"{attribute} {noun}"),
                category=category,
                query=noun,
                path=tuple(row["path"]),
                description="",
                features=(),
                options=options,
                attributes=(attribute,),
                price=float(paid),
                price_tag=f"${paid}",
            )
        )
    target, order = products[0], rng.sample(range(SMALL_PRODUCTS), SMALL_PRODUCTS)
    numbered = [replace(products[place], asin=str(number)) for number, place in enumerate(order, start=1)]
    positions = {"before": [wanted], "having": [], "purposes": []}
    goal = Goal(
        instruction=_request(rng, f"{lead[0]}{noun}", positions, asked) + price_text,
        asin=str(1 + order.index(0)),
        title=target.title,
        query=noun,
        path=target.path,
        attributes=(wanted,),
        options=tuple(asked.values()),
        price_upper=limit,
    )
    return numbered, goal


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

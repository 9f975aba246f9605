"""What the shopper asks for, and the original's reward for what was bought."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from rapidfuzz import fuzz, utils
from textblob.en.taggers import PatternTagger

from agentrm.environments.webshop.catalogue import Product

FUZZY_MATCH = 85
NO_PRICE_LIMIT = 1_000_000.0
PRICE_STEP, HIGHEST_LIMIT, LIMITS_DRAWN_FROM = 10, 990, 4
_EXACT_OPTIONS = ("size",)
_COLOURS = re.findall(
    r"\w+",
    "amber apricot aqua azure beige black blue blush bronze brown burgundy camel camo caramel champagne charcoal "
    "chestnut chocolate coffee copper coral cranberry cream cyan denim emerald espresso fuchsia gold graphite gray "
    "green grey heather indigo ivory jade khaki lavender leopard lilac lime magenta maroon mauve mint mocha mustard "
    "natural navy nude olive orange peach pink plum purple rainbow red rose ruby rust sage salmon sand sapphire silver "
    "slate tan taupe teal turquoise violet walnut white wine yellow",
)


# Where spaCy cuts a word: between parts that are joined by a mark, and before a unit.
_JOINT = re.compile(
    r"(?<=[a-z])([-/,|])(?=[a-z])|(?<=\d)()"
    r"(?=(?:gb|mm|oz|ft|g|k|cm|m|in|inch|lb|lbs|ml|w|v|mah|tb|hz|kg|l|d|p)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Goal:
    """One shopping request: the instruction, and the truth that it is scored with.

    `title`, `query` and `path` are those of the product that the request was written for, `options` the values
    that it asks for, `price_upper` its limit in dollars.
    """

    instruction: str
    asin: str
    title: str
    query: str
    path: tuple[str, ...]
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    price_upper: float


def reward(product: Product, goal: Goal, options: Mapping[str, str]) -> float:
    """The original's reward in [0, 1] for buying the product with these options.

    The share of attributes, options and the price limit that are met, times the type reward. Options that the
    request does not name can count as well; the original then pays more than 1, here it is at most 1.
    """
    met = attribute_matches(product, goal) + option_matches(product, goal, options)
    met += product.price <= goal.price_upper
    wanted = len(goal.attributes) + len(goal.options) + 1
    return min(1.0, type_reward(product, goal) * met / wanted)


def type_reward(product: Product, goal: Goal) -> float:
    """1, 0.5, 0.1 or 0: how far the product is of the kind asked for.

    From the share of the goal title's nouns that the product's title has, the product type and the category path. The
    original takes nouns from spaCy's large English model, which is a download; here they come from the tagger and the
    lexicon inside the textblob package, which cuts and reads titles as spaCy does: docs/environments.md says how often
    the reward still differs.
    """
    wanted = nouns(goal.title)
    share = len(wanted & nouns(product.title)) / len(wanted) if wanted else 0.2
    if share == 0:
        return 0.0
    if share < 0.1:
        return 0.1
    alike = product.query == goal.query or len(set(product.path) & set(goal.path)) >= 2
    return 1.0 if alike or share > 0.2 else 0.5


def attribute_matches(product: Product, goal: Goal) -> int:
    """How many of the goal's attributes the product has, by its attributes or in its texts."""
    texts = product.title.lower(), " ".join(product.features).lower(), product.description.lower()
    return sum(
        any(_similar(own, wanted) for own in product.attributes) or any(wanted in text for text in texts)
        for wanted in goal.attributes
    )


def option_matches(product: Product, goal: Goal, options: Mapping[str, str]) -> int:
    """How many of the chosen options the goal asks for, or are part of the product's texts."""
    texts = product.title.lower(), " ".join(product.features).lower(), product.description.lower()
    chosen = {name: plain_colour(value) for name, value in options.items()}
    return sum(_is_wanted(name, value, goal) or any(value in text for text in texts) for name, value in chosen.items())


def best_options(product: Product, goal: Goal) -> dict[str, str]:
    """The options of the product to choose for this goal: the very values that it names, else the first that count."""
    chosen: dict[str, str] = {}
    for name, values in product.options.items():
        counting = [value for value in values if _is_wanted(name, plain_colour(value), goal)]
        if counting:
            chosen[name] = next((value for value in counting if value in goal.options), counting[0])
    return chosen


def fits(product: Product, goal: Goal) -> bool:
    """Whether buying this product with its best options earns the full reward."""
    return reward(product, goal, best_options(product, goal)) >= 1


def price_limit(rng: Random, price: float) -> tuple[float, str]:
    """A limit somewhat above the price, in whole steps, and how the request says it; none above HIGHEST_LIMIT."""
    steps = range(PRICE_STEP, HIGHEST_LIMIT + 1, PRICE_STEP)
    above = [float(step) for step in steps if step > price][:LIMITS_DRAWN_FROM]
    if len(above) < 2:
        return NO_PRICE_LIMIT, ""
    limit = max(rng.sample(above, 2))
    return limit, f", and price lower than {limit:.2f} dollars"


def plain_colour(value: str) -> str:
    """The first colour word, alphabetically, inside an option's value, or the value where it has none."""
    return next((colour for colour in _COLOURS if colour in value), value)


@lru_cache(maxsize=65_536)
def nouns(title: str) -> frozenset[str]:
    """The nouns of a title, common and proper, in lower case."""
    tagged = _tagger().tag(_JOINT.sub(r" \1 ", title))
    return frozenset(word.lower() for word, tag in tagged if tag.startswith("NN") or _is_name(word, tag))


def _is_name(word: str, tag: str) -> bool:
    """In a title a capitalised adjective or verb is read as a part of a name."""
    return word[:1].isupper() and tag.startswith(("JJ", "VB"))


@lru_cache(maxsize=1)
def _tagger() -> PatternTagger:
    return PatternTagger()


def _is_wanted(name: str, value: str, goal: Goal) -> bool:
    wanted = [plain_colour(option) for option in goal.options]
    return value in wanted if name in _EXACT_OPTIONS else any(_similar(option, value) for option in wanted)


def _similar(one: str, other: str) -> bool:
    return round(fuzz.token_set_ratio(one, other, processor=utils.default_process)) > FUZZY_MATCH

"""WebShop's own data: products, attributes and instructions from the files that the original project downloads."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import ijson
from platformdirs import user_cache_path

from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS
from agentrm.environments import agentboard
from agentrm.environments.official import Published, announce, identity
from agentrm.environments.support import derive_seed
from agentrm.environments.webshop import DATA_VARIABLE, SESSIONS
from agentrm.environments.webshop.catalogue import Catalogue, Product
from agentrm.environments.webshop.goals import Goal, price_limit
from agentrm.environments.webshop.store import RULE, Builder, stored_shop

_log = logging.getLogger(__name__)

# The original's shuffle of all goals, of which the first are test, the next valid and the rest train.
SHUFFLE_SEED = 233
TEST_GOALS, VALID_GOALS = 500, 1000
_LONGEST_ASIN = 10
_PATH_MARK = "\u203a"
_DEFAULT_PRICE = 100.0
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class OfficialShop:
    """The official catalogue, and its goals by (category or SESSIONS, split) in the original's order.

    `identity` tells it from other shops; `left_out` says why a record of the files is not in it.
    """

    catalogue: Catalogue
    goals: Mapping[tuple[str, str], Sequence[Goal]]
    identity: str
    left_out: dict[str, str]


@lru_cache(maxsize=1)
def official_shop(folder: Path) -> OfficialShop:
    """The shop of `items_shuffle*.json`, `items_ins_v2*.json` and, where it is there, `items_human_ins.json`.

    With several sizes in the folder the first by name is read, which is the full one. With human instructions the
    goals are those, else the synthetic ones of the attributes' file, one for each choice of options. Prices of
    products with a price range and price limits are drawn, as in the original, but by seed. A record without a needed
    field is left out.

    It is read once, into files beside the data (or, where that cannot be written to, in the user's cache), which all
    processes share. Raises UserError for a missing file, text that is no JSON, and a shop without goals.
    """
    products_path, attributes_path = _file(folder, "items_shuffle"), _file(folder, "items_ins_v2")
    human_path = folder / "items_human_ins.json"
    read = [path for path in (products_path, attributes_path, human_path) if path.is_file()]
    name = identity([_sample(path) for path in read])
    own = folder / ".agentrm"
    place = own if os.access(own if own.exists() else folder, os.W_OK) else user_cache_path("agentrm") / "webshop"

    def build(target: Path) -> None:
        _build(target, folder, products_path, attributes_path, human_path if human_path.is_file() else None)

    shop = stored_shop(place / f"{name}-{RULE}", build)
    goals_by_kind = {
        (kind, split): goals for key, goals in shop.goals.items() for kind, _, split in [key.partition(" ")]
    }
    goals = sum(len(sessions) for (kind, _), sessions in goals_by_kind.items() if kind == SESSIONS)
    announce(DATA_VARIABLE, folder, len(shop.catalogue.products) + goals, shop.left_out)
    return OfficialShop(shop.catalogue, goals_by_kind, name, shop.left_out)


def _build(target: Path, folder: Path, products_path: Path, attributes_path: Path, human_path: Path | None) -> None:
    """Write the shop into a folder, one product at a time: the full file has 5 GB. Raises UserError without goals."""
    # Whoever waits should know what for: the full shop takes a good while, once.
    _log.warning("%s is read for the first time, into %s", products_path, target.parent)
    left_out: dict[str, str] = {}
    attributes = {asin: record for _, asin, record in _records(attributes_path, keyed=True)}
    human = {asin: record for _, asin, record in _records(human_path, keyed=True)} if human_path else {}
    builder, seen = Builder(target), set()
    for number, _, record in _records(products_path, keyed=False):
        try:
            product = _product(record, attributes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out[f"{products_path.name}: product {number}"] = f"cannot be read ({error!r})"
            continue
        if product.asin == "nan" or len(product.asin.encode()) > _LONGEST_ASIN or product.asin in seen:
            continue
        seen.add(product.asin)
        path = human_path or attributes_path
        goals: list[Goal] = []
        try:
            if human_path:
                goals += _human_goals(product, human.get(product.asin) or [])
            else:
                goals += _synthetic_goals(product, attributes.get(product.asin) or {})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out[f"{path.name}: instructions of {product.asin}"] = f"cannot be read ({error!r})"
        builder.add(product, goals)
    if not builder.goals:
        announce(DATA_VARIABLE, folder, 0, left_out)
        raise UserError(f"{DATA_VARIABLE}={folder} holds no product with an instruction that can be used")
    order = list(range(len(builder.goals)))
    Random(SHUFFLE_SEED).shuffle(order)
    ends = {"test": TEST_GOALS, "valid": TEST_GOALS + VALID_GOALS, "train": len(order)}
    chosen: dict[str, list[int]] = {}
    for number, goal in enumerate(order):
        split = next(split for split in reversed(SPLITS) if number < ends[split])
        for kind in (builder.goals[goal], SESSIONS):
            chosen.setdefault(f"{kind} {split}", []).append(goal)
    builder.finish(chosen, left_out)


def published_goals(folder: Path, kind: str, split: str) -> Published:
    """The goals of a category in a split; see `official_shop`."""
    shop = official_shop(folder)
    return Published(shop.goals.get((kind, split), ()), shop.identity, shop.left_out)


def board_goals(folder: Path) -> Published:
    """AgentBoard's sessions in their order, where its data is here too: goals with the limits that it drew, whose
    products are sold in the shop of this folder; none where it is not.
    """
    if agentboard.lines_file("webshop") is None:
        return Published((), "")
    shop, board = official_shop(folder), agentboard.named_folder(agentboard.DATA_VARIABLE)
    assert board is not None

    def parse(line: agentboard.Line) -> Goal:
        if line.text("product_id") not in shop.catalogue.products:
            raise ValueError(f"its product is not in {DATA_VARIABLE}")
        return _board_goal(line)

    published = agentboard.published_lines("webshop", parse, board)
    return Published(published.entries, identity([published.identity, shop.identity]), published.left_out)


def _board_goal(line: agentboard.Line) -> Goal:
    """Raises ValueError for a line without what a goal is scored with."""
    options, limit = line.info.get("product_options") or (), line.info.get("price_upper")
    if not isinstance(limit, int | float) or isinstance(limit, bool):
        raise ValueError("its additional_info has no number price_upper")
    try:
        return Goal(
            instruction=line.goal,
            asin=line.text("product_id"),
            title=line.text("product_name"),
            query=line.text("query").lower().strip(),
            path=_path(line.text("product_category")),
            attributes=_texts(line.info.get("attributes")),
            options=_texts(list(options.values() if isinstance(options, dict) else options)),
            price_upper=float(limit),
        )
    except TypeError as error:
        raise ValueError(f"its attributes or product_options are no texts ({error})") from None


def _path(category: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _text(category).split(_PATH_MARK))


def _file(folder: Path, stem: str) -> Path:
    paths = sorted(path for path in folder.glob(f"{stem}*.json") if path.is_file())
    if not paths:
        raise UserError(
            f"{DATA_VARIABLE}={folder} holds no {stem}*.json: run WebShop's setup.sh, or unset the variable"
        )
    return paths[0]


def _sample(path: Path) -> tuple[int, bytes, bytes]:
    """What tells a file from others without reading gigabytes: its size, beginning and end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begins = file.read(_SAMPLE_BYTES)
        file.seek(max(0, size - _SAMPLE_BYTES))
        return size, begins, file.read()


def _records(path: Path, keyed: bool) -> Iterator[tuple[int, str, Any]]:
    """The records of a list, or of an object with their keys, one at a time: the full file has 5 GB."""
    try:
        with path.open("rb") as file:
            items = ijson.kvitems(file, "", use_float=True) if keyed else ijson.items(file, "item", use_float=True)
            for number, item in enumerate(items):
                yield (number, *item) if keyed else (number, "", item)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid JSON: {error}") from error


def _product(record: dict[str, Any], attributes: dict[str, Any]) -> Product:
    features = record["small_description"]
    prices = [float(re.sub(r"[^\d.]", "", price)) for price in (record.get("pricing") or "").split("$")[1:]][:2]
    low, high = (prices[0], prices[-1]) if prices else (_DEFAULT_PRICE, _DEFAULT_PRICE)
    return Product(
        asin=_text(record["asin"]),
        title=_text(record["name"]),
        category=_text(record["category"]),
        query=_text(record["query"]).lower().strip(),
        path=_path(record["product_category"]),
        description=_text(record["full_description"] or ""),
        features=_texts(features if isinstance(features, list) else [features]),
        options={
            _text(name).lower(): tuple(_text(value["value"]).strip().replace("/", " | ").lower() for value in values)
            for name, values in (record.get("customization_options") or {}).items()
            if values is not None
        },
        attributes=_texts(attributes.get(record["asin"], {}).get("attributes", [])),
        price=Random(derive_seed("webshop price", record["asin"])).uniform(low, high),
        price_tag=f"${low}" if len(prices) < 2 else f"${low} to ${high}",
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    # Half a character would end whatever reads the page.
    value.encode()
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r:.40} is no list")
    return tuple(map(_text, values))


def _human_goals(product: Product, records: list[dict[str, Any]]) -> Iterator[Goal]:
    for number, record in enumerate(records):
        if record["instruction_attributes"]:
            text, options = _text(record["instruction"]).strip("."), _texts(record["instruction_options"])
            yield _goal(product, number, text, record["instruction_attributes"], options)


def _synthetic_goals(product: Product, record: dict[str, Any]) -> Iterator[Goal]:
    if not record or not record.get("instruction"):
        return
    names = sorted(product.options)
    for number, options in enumerate(itertools.product(*(product.options[name] for name in names))):
        chosen = ", and ".join(f"{name}: {value}" for name, value in zip(names, options, strict=True))
        text = record["instruction"] + (f" with {chosen}" if chosen else "")
        yield _goal(product, number, text, record["instruction_attributes"], options)


def _goal(product: Product, number: int, text: str, attributes: list[str], options: tuple[str, ...]) -> Goal:
    price_upper, price_text = price_limit(Random(derive_seed("webshop limit", product.asin, number)), product.price)
    return Goal(
        instruction=text + price_text,
        asin=product.asin,
        title=product.title,
        query=product.query,
        path=product.path,
        attributes=_texts(attributes),
        options=options,
        price_upper=price_upper,
    )

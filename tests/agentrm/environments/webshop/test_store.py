"""A shop on disk is the shop in memory, and is built once."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from random import Random

import pytest

for package in ("bm25s", "ijson", "rapidfuzz", "textblob"):
    pytest.importorskip(package)

from agentrm.core.errors import UserError  # noqa: E402
from agentrm.environments.registry import environment_class, make  # noqa: E402
from agentrm.environments.webshop import official  # noqa: E402
from agentrm.environments.webshop.catalogue import Catalogue, Product  # noqa: E402
from agentrm.environments.webshop.goals import Goal  # noqa: E402
from agentrm.environments.webshop.store import Builder, Shop, stored_shop  # noqa: E402

WORDS = [f"{stem}{end}" for stem in ("wool", "lamp", "chair", "tea", "soap", "mug") for end in ("", "s", "ing")]


def product(number: int, title: str, **fields: object) -> Product:
    given: dict = {
        "asin": f"B{number:09d}", "title": title, "category": "beauty", "query": "q", "path": ("a", "b"),
        "description": "", "features": ("one", "two"), "options": {"color": ("red", "grün")}, "attributes": ("soft",),
        "price": 1.5, "price_tag": "$1.5",
    }  # fmt: skip
    return Product(**given | fields)


def goal(number: int) -> Goal:
    return Goal(f"want {number}", f"B{number:09d}", "t", "q", ("a", "b"), ("soft",), ("red",), 10.0)


@pytest.fixture
def products() -> list[Product]:
    random = Random(3)
    return [product(number, " ".join(random.choices(WORDS, k=random.randint(1, 30)))) for number in range(300)]


def build(products: list[Product]):
    def write(folder: Path) -> None:
        builder = Builder(folder)
        for number, each in enumerate(products):
            builder.add(each, [goal(number)] * (number % 2))
        builder.finish({"even": [0, 2], "all": range(len(builder.goals))}, {"file: product 7": "odd"})

    return write


def test_it_sells_and_finds_what_a_shop_in_memory_does(tmp_path: Path, products: list[Product]) -> None:
    shop = stored_shop(tmp_path / "shop", build(products))
    known = Catalogue(products)
    assert len(shop.catalogue.products) == 300
    assert list(shop.catalogue.products) == [each.asin for each in products]
    assert list(shop.catalogue.products.values()) == products
    assert "B99" not in shop.catalogue.products
    with pytest.raises(KeyError):
        _ = shop.catalogue.products["B999999999"]
    random = Random(5)
    for _ in range(50):
        query = " ".join(random.choices(WORDS, k=random.randint(1, 6)))
        mine, theirs = shop.catalogue.search(query), known.search(query)
        assert len(mine) == len(theirs) <= 50
        # Sums of single precision in another order: neighbours of nearly the same score may change places.
        assert len(set(mine) & set(theirs)) >= len(theirs) - 1
        assert sum(a == b for a, b in zip(mine, theirs, strict=True)) >= 0.9 * len(theirs)
    assert shop.catalogue.search("nothing known") == shop.catalogue.search("") == ()
    assert shop.left_out == {"file: product 7": "odd"}
    assert shop.goals["even"][1] == goal(5)
    assert len(shop.goals["all"]) == 150
    assert shop.goals["all"][-1] == goal(299)
    assert list(shop.goals["even"]) == shop.goals["even"][:] == [goal(1), goal(5)]
    with pytest.raises(IndexError):
        _ = shop.goals["even"][2]


def test_equal_matches_come_in_the_shops_order_and_the_first_fifty_stay(tmp_path: Path) -> None:
    alike = [product(number, "wool mug") for number in range(80)]
    shop = stored_shop(tmp_path / "shop", build(alike))
    assert shop.catalogue.search("mug") == tuple(each.asin for each in alike[:50])


def _ask(folder: Path, log: Path) -> None:
    def write(target: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        build([product(number, "wool") for number in range(20)])(target)

    assert len(stored_shop(folder, write).catalogue.products) == 20


def test_it_is_built_once_whoever_asks(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    asking = [context.Process(target=_ask, args=(tmp_path / "shop", tmp_path / "log")) for _ in range(3)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
        assert each.exitcode == 0
    assert (tmp_path / "log").read_text() == "built\n"


def test_what_was_cut_leaves_nothing_that_reads_as_whole(tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        (folder / "products.jsonl").write_text("{")
        raise UserError("no goals")

    with pytest.raises(UserError, match="no goals"):
        stored_shop(tmp_path / "shop", cut)
    assert [path.name for path in tmp_path.iterdir()] == ["shop.lock"]
    assert isinstance(stored_shop(tmp_path / "shop", build([product(0, "x"), product(1, "y")])), Shop)


def write_data(folder: Path, count: int) -> None:
    records = [
        {
            "asin": f"B{number:09d}", "name": f"mug {number}", "category": ("beauty", "garden")[number % 2],
            "query": "mug", "product_category": "a \u203a b", "full_description": "", "small_description": ["x"],
            "pricing": "$5",
            "customization_options": {},
        }
        for number in range(count)
    ]  # fmt: skip
    asked = {
        each["asin"]: [
            {"instruction": f"want {each['name']}", "instruction_attributes": ["x"], "instruction_options": []}
        ]
        for each in records
    }
    (folder / "items_shuffle.json").write_text(json.dumps(records))
    (folder / "items_ins_v2.json").write_text("{}")
    (folder / "items_human_ins.json").write_text(json.dumps(asked))


def test_sessions_are_all_goals_in_the_originals_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path, 2000)
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    cls = environment_class("webshop")
    assert [cls.size("sessions", split) for split in ("test", "valid", "train")] == [500, 1000, 500]
    assert cls.usual_kinds("test") == ("sessions",)
    # The original shuffles the goals by this seed and takes the first as test sessions, whatever their category.
    order = list(range(2000))
    Random(233).shuffle(order)
    found = [cls.entry(cls.task("sessions", "test", index)).title for index in range(200)]
    assert found == [f"mug {number}" for number in order[:200]]
    assert cls.size("beauty", "test") + cls.size("garden", "test") == 500
    environment = make("webshop")
    text = environment.reset(cls.task("sessions", "test", 0)).text
    assert f"want mug {order[0]}, and price lower than " in text
    environment.close()
    # What was built is read by the next process, also where the user's files cannot be parsed any more.
    official.official_shop.cache_clear()
    assert [path.name for path in (tmp_path / ".agentrm").iterdir() if path.is_dir()]
    monkeypatch.setattr(official, "_records", None)
    assert len(official.official_shop(tmp_path).goals["sessions", "test"]) == 500


def test_agentboards_sessions_are_its_goals_in_this_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path, 60)
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    info = {
        "product_id": "B000000007", "category": "garden", "query": "Mug", "product_name": "mug 7",
        "product_category": "a \u203a b", "attributes": ["mug"], "price_upper": 40.0, "product_options": {},
    }  # fmt: skip
    odd = ({"product_id": "B999999999"}, {"price_upper": "40"}, {"attributes": None}, {"product_options": [1]},
           {"product_category": 3})  # fmt: skip
    lines = [
        {"id": number, "task": "webshop", "goal": f"i want mug 7, and price lower than {40 + number}.00 dollars",
         "subgoals": None, "difficulty": "easy", "additional_info": info | change}
        for number, change in enumerate(({}, *odd, {"price_upper": 4.0}))
    ]  # fmt: skip
    cls = environment_class("webshop")
    with pytest.raises(UserError, match=r"get WebShop's data .*, beside it AgentBoard's data .* AGENTBOARD_DATA"):
        cls.require("agentboard", "test", official=True)
    board = tmp_path / "board"
    (board / "webshop").mkdir(parents=True)
    (board / "webshop" / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setenv("AGENTBOARD_DATA", str(board))
    assert cls.size("agentboard", "test") == 2
    assert len(cls.published("agentboard", "test").left_out) == len(odd)
    # They are sessions too: a set without kinds has each once.
    assert cls.usual_kinds("test") == ("sessions",)
    assert cls.step_limit("agentboard") == 30
    shop = make("webshop")
    for index, best in ((0, 1.0), (1, 0.5)):
        shop.reset(cls.task("agentboard", "test", index))
        shop.step("search[mug 7]")
        assert shop.grade().progress == pytest.approx(best / 3)
        shop.step("click[B000000007]")
        state = shop.snapshot()
        shop.step("click[< Prev]")
        shop.restore(state)
        assert shop.grade().progress == pytest.approx(2 * best / 3)
        assert shop.step("click[Buy Now]").done
        assert (shop.grade().outcome, shop.grade().progress) == (best, pytest.approx(best))
    shop.close()

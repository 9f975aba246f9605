import gzip
import json
import os
import re
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS, Task
from agentrm.environments.registry import make

for package in ("bm25s", "ijson", "rapidfuzz", "Stemmer", "textblob"):
    pytest.importorskip(package)

from agentrm.environments.support import split_of  # noqa: E402
from agentrm.environments.webshop import goals  # noqa: E402
from agentrm.environments.webshop.catalogue import Catalogue, Product, terms  # noqa: E402
from agentrm.environments.webshop.environment import CATEGORIES  # noqa: E402
from agentrm.environments.webshop.generator import PRODUCTS_PER_TYPE, catalogue, generated_goal, small_shop  # noqa: E402
from agentrm.environments.webshop.official import official_shop  # noqa: E402

LOTION = Product(
    asin="B0LOTION00",
    title="Lumora Body Lotion with Shea Butter",
    category="beauty",
    query="body lotions",
    path=("Beauty", "Skin Care", "Moisturizers"),
    description="It is cruelty free.",
    features=("Great for dry skin.",),
    options={"scent": ("rose petal", "citrus"), "size": ("5 fl oz", "8 fl oz")},
    attributes=("shea butter", "dry skin"),
    price=18.5,
    price_tag="$18.50",
)
GOAL = goals.Goal(
    instruction="i need a cruelty free body lotion with shea butter",
    asin=LOTION.asin,
    title=LOTION.title,
    query=LOTION.query,
    path=LOTION.path,
    attributes=("shea butter", "cruelty free"),
    options=("rose petal", "8 fl oz"),
    price_upper=20.0,
)
OFFICIAL_RECORD = {
    "asin": "B000000001",
    "name": "Acme Wool Sweater",
    "category": "fashion",
    "query": " Men's Sweaters ",
    "product_category": "Clothing \u203a Men \u203a Sweaters",
    "small_description": "Warm.",
    "full_description": None,
    "pricing": "$1,019.99$1,029.99",
    "customization_options": {"Color": [{"value": " Navy/White "}, {"value": "Red"}], "Size": None},
}


@pytest.fixture
def environment():
    found = make("webshop")
    yield found
    found.close()


def test_full_reward_and_what_each_part_is_worth() -> None:
    right = {"scent": "rose petal", "size": "8 fl oz"}
    assert goals.reward(LOTION, GOAL, right) == 1
    assert goals.reward(LOTION, GOAL, {}) == pytest.approx(3 / 5)
    assert goals.reward(LOTION, GOAL, {"scent": "citrus", "size": "8 fl oz"}) == pytest.approx(4 / 5)
    assert goals.reward(replace(LOTION, price=20.01), GOAL, right) == pytest.approx(4 / 5)
    # In its texts alone, and not at all.
    assert goals.reward(replace(LOTION, attributes=()), GOAL, right) == 1
    assert goals.reward(replace(LOTION, description=""), GOAL, right) == pytest.approx(4 / 5)


def test_options_beyond_those_asked_for_never_pay_more_than_all() -> None:
    goal = replace(GOAL, options=("rose petal",))
    product = replace(LOTION, description="It is cruelty free. 8 fl oz")
    assert goals.option_matches(product, goal, {"scent": "rose petal", "size": "8 fl oz"}) == 2
    assert goals.reward(product, goal, {"scent": "rose petal", "size": "8 fl oz"}) == 1


def test_colours_match_by_their_first_colour_word_and_sizes_exactly() -> None:
    assert goals.plain_colour("light blue stripes") == "blue"
    assert goals.plain_colour("8 fl oz") == "8 fl oz"
    goal = replace(GOAL, options=("navy blue", "large"))
    assert goals.option_matches(LOTION, goal, {"color": "blue and white"}) == 1
    assert goals.option_matches(LOTION, goal, {"size": "x-large"}) == 0
    assert goals.option_matches(LOTION, goal, {"fit": "x-large"}) == 1


def test_type_reward_by_hand() -> None:
    goal = replace(GOAL, title="Lumora Lotion Butter Cream Oil", query="lotions", path=("Beauty", "Skin Care"))

    def of(title: str, query: str = "other", path: tuple[str, ...] = ("Food",)) -> float:
        return goals.type_reward(replace(LOTION, title=title, query=query, path=path), goal)

    assert len(goals.nouns(goal.title)) == 5
    assert of("Lotion Butter") == 1  # two of five nouns
    assert of("Lotion") == 0.5  # one of five, which is not more than 0.2
    assert of("Lotion", query="lotions") == 1
    assert of("Lotion", path=("Skin Care", "Oils", "Beauty")) == 1
    assert of("Lotion", path=("Beauty", "Beauty")) == 0.5
    assert of("Toothbrush", query="lotions") == 0
    many = replace(goal, title="Lotion Butter Cream Oil Soap Water Glass Wood Stone Paper Table Chair")
    assert goals.type_reward(replace(LOTION, title="Lotion"), many) == 0.1


@pytest.mark.parametrize(
    ("bought", "wanted", "share"),
    [
        (
            "adidas Unisex-Adult D.o.n. Issue 2 Indoor Court Shoe",
            "adidas Unisex-Adult D.o.n. Issue 2 Basketball Shoe",
            0.85,
        ),
        (
            "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo Home Theater "
            "System",
            "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar Home Theater "
            "System Subwoofer",
            0.31,
        ),
        (
            "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo Home Theater "
            "System",
            "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar",
            0.17,
        ),
        (
            "Minkissy 2pcs Stainless Steel Eyebrow Tweezers Blackhead Acne Remover Portable Makeup Tweezers (Silver)",
            "Rusticware 921ORB Kitchen and Bath Cabinet Knob",
            0.0,
        ),
    ],
)
def test_shares_of_nouns_are_near_those_of_the_original(bought: str, wanted: str, share: float) -> None:
    """The figures that the original's own tests give for spaCy's large model."""
    nouns = goals.nouns(wanted)
    assert len(nouns & goals.nouns(bought)) / len(nouns) == pytest.approx(share, abs=0.02)


def test_words_are_stemmed_without_possessives_and_stop_words() -> None:
    assert terms("Men's running SHOES for the 10.5") == ["men", "run", "shoe", "10.5"]
    assert terms("a lone s\x00") == ["lone"]


def test_search_scores_as_lucene_does() -> None:
    texts = ["red lamp", "red red lamp shade", "blue lamp", "green sofa"]
    blank = replace(LOTION, description="", features=(), options={})
    shop = Catalogue([replace(blank, asin=f"B{number}", title=text) for number, text in enumerate(texts)])
    rarity, mean = log(1 + (4 - 2 + 0.5) / (2 + 0.5)), (2 + 4 + 2 + 2) / 4
    expected = [rarity * tf / (tf + 0.9 * (0.6 + 0.4 * length / mean)) for tf, length in ((1, 2), (2, 4))]
    assert shop._index.get_scores(["red"]).tolist() == pytest.approx([*expected, 0, 0])
    assert shop.search("red") == ("B1", "B0")
    assert shop.search("lamps") == ("B0", "B2", "B1")  # the shorter first, equal ones in the shop's order
    assert shop.search("chair") == shop.search("the") == shop.search("\ud800\x00") == ()


def test_the_generated_shop_is_large_and_its_splits_share_no_product() -> None:
    products = catalogue().products.values()
    assert len(products) > 0.99 * 45 * PRODUCTS_PER_TYPE
    assert len({product.query for product in products}) == 45
    assert all(re.fullmatch("B0[0-9A-F]{8}", product.asin) for product in products)
    bought = {
        split: {
            generated_goal(Task("webshop", "garden", split, index, seed)).asin
            for index in range(200)
            for seed in (0, 1)
        }
        for split in SPLITS
    }
    assert not (
        bought["train"] & bought["valid"] or bought["train"] & bought["test"] or bought["valid"] & bought["test"]
    )
    assert all(len(asins) > 80 for asins in bought.values())


def test_requests_say_all_that_is_scored() -> None:
    texts = set()
    for kind in ("beauty", "electronics", "fashion", "garden", "grocery"):
        for index in range(40):
            goal = generated_goal(Task("webshop", kind, "train", index))
            product = catalogue().products[goal.asin]
            assert 1 <= len(goal.attributes) <= 3
            for said in (*goal.attributes, *goal.options, f"price lower than {goal.price_upper:.2f} dollars"):
                assert said in goal.instruction
            assert product.price < goal.price_upper
            pages = " ".join((product.title, product.description, *product.features)).lower()
            assert all(attribute in pages for attribute in product.attributes)
            texts.add(goal.instruction)
    assert len(texts) == 200


def test_small_shops_are_short_and_hide_their_options_until_a_product_is_looked_at(environment) -> None:
    lengths = set()
    for index in range(40):
        environment.reset(Task("webshop", "beauty_small", "train", index))
        goal, products = environment._goal, environment._catalogue.products
        assert sorted(products) == ["1", "2", "3", "4"] and {each.category for each in products.values()} == {"beauty"}
        actions = environment.expert_actions()
        lengths.add(len(actions))
        listed = environment.step(actions[0]).text
        assert goal.instruction not in listed and len(re.findall(r"\| [1-4] \|", listed)) == 4
        assert not any(f"| {value} |" in listed for each in products.values() for value in each.options["size"])
        # What was looked at before lacks an option, and was left; the last one has both.
        for looked_at in actions[1:-4:2]:
            page = environment.step(looked_at).text
            assert not all(f"| {value} |" in page for value in goal.options)
            assert ": no" in environment.thought(()) and environment.step("click[< Prev]").text == listed
        page = environment.step(actions[-4]).text
        assert all(f"| {value} |" in page for value in goal.options) and ": no" not in environment.thought(())
        assert environment.step(actions[-3]).text == f"You have clicked {goal.options[0]}."
        environment.step(actions[-2])
        assert environment.thought(()) == "At least 1 more action."
        assert environment.step(actions[-1]).text == f"Purchased | {actions[-4][6:-1]}"
    assert lengths == {5, 7, 9}


def test_the_oracle_of_a_small_shop_says_what_it_has_read(environment) -> None:
    environment.reset(Task("webshop", "garden_small", "train", 0))
    assert environment.thought(()) == "At least 5 more actions."
    goal = environment._goal
    black_large = replace(goal, options=("black", "large"), query="lamp", attributes=("spot clean",), price_upper=20.0)
    shop = [
        replace(LOTION, asin=asin, title="Spot Clean Lamp", attributes=("spot clean",), options=options, price=10.0)
        for asin, options in (
            ("1", {"color": ("white",), "size": ("large",)}),
            ("2", {"color": ("black",), "size": ("large",)}),
        )
    ]
    environment._catalogue, environment._goal = Catalogue(shop, brief=True), black_large
    told = []
    for action in ("search[lamp]", "click[1]", "click[< prev]", "click[2]", "click[black]", "click[large]"):
        environment.step(action)
        told.append(environment.thought(()))
    assert told == [
        "At least 4 more actions.",
        "black: no, large: yes. At least 5 more actions.",
        "At least 4 more actions.",
        "black: yes, large: yes. At least 3 more actions.",
        "At least 2 more actions.",
        "At least 1 more action.",
    ]


def test_small_shops_are_in_one_split_each() -> None:
    asked = [
        {
            generated_content(Task("webshop", "fashion_small", split, index, seed))
            for index in range(60)
            for seed in (0, 1)
        }
        for split in SPLITS
    ]
    assert not (asked[0] & asked[1] or asked[0] & asked[2] or asked[1] & asked[2])
    assert all(split_of(content) == split for split, found in zip(SPLITS, asked, strict=True) for content in found)


def generated_content(task: Task) -> str:
    shop, goal = small_shop(task)
    return repr((list(shop.products.values()), goal))


def test_the_oracle_earns_the_full_reward(environment) -> None:
    for kind in environment.kinds:
        for index in range(20):
            environment.reset(environment.task(kind, "test", index))
            actions = environment.expert_actions()
            assert 3 <= len(actions) <= environment.max_steps
            for action in actions:
                observation = environment.step(action)
            assert observation.done
            assert environment.grade().outcome == environment.grade().progress == 1


def with_options(environment, count: int) -> list[str]:
    """Reset to the first task of fashion that asks for so many options; the oracle's actions."""
    for index in range(50):
        environment.reset(Task("webshop", "fashion", "train", index))
        if len(environment._goal.options) == count:
            return environment.expert_actions()
    raise AssertionError("no such task")


def test_milestones_and_a_purchase_that_lacks_an_option(environment) -> None:
    actions = with_options(environment, 2)
    assert len(actions) == 5
    progress = []
    for action in actions[:3]:
        environment.step(action)
        progress.append(environment.grade().progress)
    assert progress == pytest.approx([1 / 5, 2 / 5, 3 / 5])
    assert environment.grade().outcome == 0
    bought = environment.step("click[buy now]")
    grade = environment.grade()
    wanted = len(environment._goal.attributes) + 3
    assert bought.done
    assert not grade.success
    assert grade.outcome == pytest.approx((wanted - 1) / wanted)
    assert grade.progress == pytest.approx(3 / 5)


def test_no_page_tells_the_reward(environment) -> None:
    actions = with_options(environment, 1)
    for action in actions:
        text = environment.step(action).text
    assert text == f"Thank you for shopping with us! [SEP] Purchased [SEP] {environment._session.asin}"


def test_pages_and_their_buttons(environment) -> None:
    environment.reset(Task("webshop", "garden", "train", 0))
    head = f"Instruction: [SEP] {environment._goal.instruction} [SEP] Back to Search [SEP] "
    first = environment.step("search[lamp]").text
    assert first.startswith(f"{head}Page 1 (Total results: 50) [SEP] Next > [SEP] B0")
    assert len(re.findall(r"\[SEP\] B0[0-9A-F]{8} \[SEP\]", first)) == 10
    second = environment.step("click[next >]").text
    assert second.startswith(f"{head}Page 2 (Total results: 50) [SEP] < Prev [SEP] Next > [SEP] B0")
    assert environment.step("Click[< Prev]").text == first
    asin = environment._session.shown(environment._catalogue)[0]
    item = environment.step(f"click[{asin.lower()}]").text
    product = environment._catalogue.products[asin]
    assert item.startswith(f"{head}< Prev [SEP] ")
    assert item.endswith(f"[SEP] {product.title} [SEP] Price: {product.price_tag} [SEP] Rating: {product.rating} [SEP] "
                         "Description [SEP] Features [SEP] Reviews [SEP] Buy Now")  # fmt: skip
    name, values = next(iter(product.options.items()))
    assert environment.step(f"click[{values[1]}]").text == f"You have clicked {values[1]}. [SEP] {item}"
    description = environment.step("click[description]").text
    assert description == f"{head}< Prev [SEP] {product.description}"
    assert environment.step("click[< prev]").text == item
    assert environment._session.options == {name: values[1]}
    assert environment.step("click[< prev]").text == first
    assert environment.step("click[back to search]").text == (
        f"WebShop [SEP] Instruction: [SEP] {environment._goal.instruction} [SEP] Search"
    )


def test_the_example_is_an_episode_of_the_engine(environment) -> None:
    """In a shop of two chargers; the shop of the tasks fills pages."""
    cheap = replace(
        LOTION,
        asin="B08C5KD1WR",
        title="Velkin Phone Charger, Wall Plug, Fast Charging",
        description="",
        features=(),
        options={"color": ("black", "white")},
        attributes=("fast charging", "wall plug"),
        price=18.99,
        price_tag="$18.99",
        rating="4.4",
    )
    title = "Orlane Fast Charging Phone Charger With Wall Plug"
    dear = replace(cheap, asin="B07Q2M4XNT", title=title, price=34.5, price_tag="$34.50")
    asked = environment.example[0].observation.removeprefix("WebShop [SEP] Instruction: [SEP] ")
    environment.reset(Task("webshop", "electronics", "train", 0))
    environment._catalogue = Catalogue([dear, cheap])
    environment._goal = goals.Goal(
        instruction=asked.removesuffix(" [SEP] Search"),
        asin=cheap.asin,
        title=cheap.title,
        query=cheap.query,
        path=cheap.path,
        attributes=cheap.attributes,
        options=("white",),
        price_upper=30.0,
    )
    said = environment._page()
    for turn in environment.example:
        assert said == turn.observation
        observation = environment.step(turn.action)
        said = observation.text
    assert observation.done
    assert environment.grade().success


def test_what_cannot_be_done_is_said(environment) -> None:
    environment.reset(Task("webshop", "garden", "train", 0))
    before = environment.fingerprint()
    wrong = "Invalid action: it must be search[<keywords>] or click[<button>]."
    for action in ("buy now", "search[]", "click[ ]", "search", "buy[it]", "click[a] and more"):
        assert environment.step(action).text == wrong
    assert environment.step("click[Buy Now]").text == (
        "Invalid action: there is no such button here, only search[<keywords>]."
    )
    assert environment.fingerprint() == before
    assert "(Total results: 0)" in environment.step("search[\ud800 \x07]").text
    assert (
        environment.step("click[next >]").text == "Invalid action: there is no such button here, only Back to Search."
    )
    assert environment.step(f"search[{'lamp ' * 3000}]").text.count("B0")


def test_a_task_is_the_same_on_every_machine(environment) -> None:
    environment.reset(Task("webshop", "grocery", "test", 5, 2))
    for action in environment.expert_actions()[:2]:
        environment.step(action)
    assert environment.fingerprint() == "ec9176f251094d5503745a89683140ed"


def write_official(folder: Path, products: list[dict], attributes: dict, human: dict | None = None) -> Path:
    (folder / "items_shuffle_1000.json").write_text(json.dumps(products))
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(attributes))
    if human is not None:
        (folder / "items_human_ins.json").write_text(json.dumps(human))
    return folder


def test_official_records_become_products_and_goals(tmp_path: Path) -> None:
    records = [OFFICIAL_RECORD, OFFICIAL_RECORD | {"name": "again"}, OFFICIAL_RECORD | {"asin": "nan"}]
    synthetic = {
        "B000000001": {
            "attributes": ["hand wash"],
            "instruction": "Find me sweaters",
            "instruction_attributes": ["hand wash"],
        }
    }
    shop = official_shop(write_official(tmp_path, records, synthetic))
    (product,) = shop.catalogue.products.values()
    assert product.title == "Acme Wool Sweater"
    assert product.query == "men's sweaters"
    assert product.path == ("Clothing", "Men", "Sweaters")
    assert product.features == ("Warm.",)
    assert product.options == {"color": ("navy | white", "red")}
    assert product.attributes == ("hand wash",)
    assert product.price_tag == "$1019.99 to $1029.99"
    assert 1019.99 <= product.price <= 1029.99
    instructions = [goal.instruction for goal in shop.goals["fashion", "test"]]
    assert sorted(instructions) == ["Find me sweaters with color: navy | white", "Find me sweaters with color: red"]


def test_human_instructions_come_first(tmp_path: Path) -> None:
    record = OFFICIAL_RECORD | {"pricing": "$15.00"}
    asked = {"instruction": "i need a red one.", "instruction_attributes": ["wool"], "instruction_options": ["red"]}
    human = {"B000000001": [asked, asked | {"instruction_attributes": []}], "B000000002": [asked]}
    shop = official_shop(write_official(tmp_path, [record], {}, human))
    (goal,) = shop.goals["fashion", "test"]
    assert re.fullmatch(r"i need a red one, and price lower than (30|40|50).00 dollars", goal.instruction)
    assert (goal.attributes, goal.options) == (("wool",), ("red",))


def test_official_data_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = make("webshop")
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere is no folder"):
        environment.size("beauty", "test")
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"holds no items_shuffle\*.json"):
        environment.size("beauty", "test")
    (tmp_path / "items_ins_v2_1000.json").write_text("{}")
    (tmp_path / "items_shuffle_1000.json").write_text("[{")
    with pytest.raises(UserError, match=r"items_shuffle_1000.json is no valid JSON"):
        environment.size("beauty", "test")
    write_official(tmp_path, [OFFICIAL_RECORD], {})
    with pytest.raises(UserError, match="holds no product with an instruction"):
        environment.size("beauty", "test")


def test_records_that_cannot_be_used_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = [{"asin": "B000000002"}, 7, None, OFFICIAL_RECORD | {"name": None}, OFFICIAL_RECORD | {"asin": "B000000003"}]
    asked = {"instruction": "i need it", "instruction_attributes": ["wool"], "instruction_options": []}
    human = {"B000000001": [asked], "B000000003": [{"instruction": "i need it"}], "B000000002": [asked]}
    attributes = {"B000000001": {"attributes": ["hand wash"]}, "B000000003": "none"}
    sound = write_official(tmp_path, [*odd[:4], OFFICIAL_RECORD, {**odd[4], "asin": "B000000004"}], attributes, human)
    shop = official_shop(sound)
    assert list(shop.catalogue.products) == ["B000000001", "B000000004"]
    assert {name: [goal.asin for goal in goals] for name, goals in shop.goals.items()} == {
        ("fashion", "test"): ["B000000001"],
        ("sessions", "test"): ["B000000001"],
    }
    assert list(shop.left_out) == [f"items_shuffle_1000.json: product {number}" for number in range(4)]
    first, told = caplog.messages
    assert "items_shuffle_1000.json is read for the first time, into " in first
    assert "3 entries are used, left out are 1 x cannot be read (KeyError('small_description'))" in told


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The thousand products of WebShop's small set, in the form of the original's files, from AGENTRM_TEST_DATA."""
    source = Path(os.environ.get("AGENTRM_TEST_DATA", ""))
    if not (source / "webshop_products_1000.jsonl.gz").is_file():
        pytest.skip("set AGENTRM_TEST_DATA to a directory with webshop_products_1000.jsonl.gz")
    with gzip.open(source / "webshop_products_1000.jsonl.gz", "rt") as lines:
        products = [json.loads(line)["product"] for line in lines]
    for product in products:
        product["pricing"] = "".join(f"${price}" for price in product["pricing"])
    attributes = json.loads((source / "webshop_items_ins_v2_1000.json").read_text())
    return write_official(tmp_path, products, attributes)


def test_the_official_thousand_products(environment, official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSHOP_DATA", str(official))
    assert sum(environment.size(kind, "test") for kind in CATEGORIES) == 500
    assert sum(environment.size(kind, "valid") for kind in CATEGORIES) == 1000
    solved = 0
    for kind in CATEGORIES:
        assert environment.reset(environment.task(kind, "test", 0)).text.startswith(
            "WebShop [SEP] Instruction: [SEP] Find"
        )
        for index in range(8):
            environment.reset(environment.task(kind, "test", index))
            solved += bool(environment.expert_actions())
    assert solved >= 38

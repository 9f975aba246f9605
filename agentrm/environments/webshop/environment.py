"""WebShop: buy what a person asks for in a text shop, on an engine of our own in the original's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentrm.core.messages import Tool, ToolCall
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments import agentboard
from agentrm.environments.base import Turn
from agentrm.environments.calls import text_argument, text_tool, write_call
from agentrm.environments.official import OfficialData, OfficialEnvironment, Published
from agentrm.environments.support import digest, engine_import
from agentrm.environments.webshop import DATA_VARIABLE, SESSIONS, SMALL, SOURCE

if TYPE_CHECKING:
    from agentrm.environments.webshop.catalogue import Catalogue
    from agentrm.environments.webshop.goals import Goal
    from agentrm.environments.webshop.pages import Session

_ACTION_FORM = "Actions: search[<keywords>] and click[<button>]."
_TOOLS = (
    text_tool("search", "Search the shop, from any page.", "keywords", "What the product's page should say."),
    text_tool("click", "Click a button of the page.", "element", "The button's text, as the page has it."),
)
_ARGUMENTS = {"search": "keywords", "click": "element"}

CATEGORIES = ("beauty", "electronics", "fashion", "garden", "grocery")


def _published(folder: Path, kind: str, split: str) -> Published:
    with engine_import("WebShop", "webshop"):
        from agentrm.environments.webshop.official import board_goals, published_goals
    if kind == agentboard.KIND:
        return board_goals(folder)
    return published_goals(folder, kind, split)


class WebShop(OfficialEnvironment):
    """A kind is one of the shop's five categories; each task asks for a product of it. The kind `sessions` are the
    goals of all categories in the order of WebShop's own code, where its data is: sessions 0 to 199 of the split test
    are the paper's. The kind `agentboard` are AgentBoard's sessions, where its data is beside it: the same with limits
    as it drew them, 30 actions, and its progress, the mean of the best reward of a product that was listed, of one
    whose page was opened, and of what was bought.

    A kind that ends with `_small` has a shop of its own for each task, of four products of one type of that category,
    for small models: single-digit numbers, prices within the limit, short titles, and no page again after a click on
    an option. Only a product's own page says which options it has, in all kinds; the oracle, which knows them in the
    large shop, looks around in a small one as a shopper does, and thinks aloud.

    The shop is WebShop's own when the environment variable WEBSHOP_DATA names the data folder of its project
    (`items_shuffle*.json`, `items_ins_v2*.json`, `items_human_ins.json`; the first 500 of its shuffled goals are the
    test split, the next 1,000 valid), else a generated one of 4,500 products of 45 types. There a request belongs to
    the split that the title of its product hashes to, so that no two splits ask for one product. Small shops are always
    generated, each in the split that its content hashes to.

    A purchase ends the episode. Outcome is the original's reward for it: how many of the attributes, the options and
    the price limit are met, times how well the type fits (see `type_reward`). Progress counts the milestones of the
    oracle's way: a page of results that lists a product which can earn the full reward, that product's page, each
    option asked for chosen there, and the purchase with full reward.
    """

    name: ClassVar[str] = "webshop"
    engine: ClassVar[str] = "own shop on bm25s 0.3.16"
    licence: ClassVar[str] = "Apache-2.0 (its libraries: MIT, BSD or Apache-2.0)"
    kinds: ClassVar[tuple[str, ...]] = (*CATEGORIES, *(category + SMALL for category in CATEGORIES))
    published_kinds: ClassVar[tuple[str, ...]] = (SESSIONS, agentboard.KIND)
    max_steps: ClassVar[int] = 10
    official: ClassVar[tuple[OfficialData, ...]] = (
        OfficialData(DATA_VARIABLE, lambda kind, _: kind in (*CATEGORIES, SESSIONS), _published, SOURCE),
        OfficialData(
            DATA_VARIABLE,
            lambda kind, split: split == "test" and kind == agentboard.KIND,
            _published,
            f"{SOURCE}, beside it {agentboard.SOURCE} named by {agentboard.DATA_VARIABLE}",
            (agentboard.DATA_VARIABLE,),
        ),
    )
    snapshots: ClassVar[bool] = True
    instruction: ClassVar[str] = (
        f"You are in a web shop and have to buy what the instruction asks for. {_ACTION_FORM} A button is anything on "
        "the page that can be clicked, by the text it has there: a product's number, the value of an option, "
        "Description, Features, Reviews, < Prev, Next >, Back to Search, Buy Now. "
        "Choose the options that are asked for before you click Buy Now: it ends the task."
    )
    action_form: ClassVar[str] = _ACTION_FORM
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            "WebShop [SEP] Instruction: [SEP] i need a fast charging phone charger with a wall plug in white, and "
            "price lower than 30.00 dollars [SEP] Search",
            "The main words are the product, its attributes and the color; the price cannot be searched.",
            "search[fast charging phone charger wall plug white]",
        ),
        Turn(
            "Instruction: [SEP] i need a fast charging phone charger with a wall plug in white, and price lower than "
            "30.00 dollars [SEP] Back to Search [SEP] Page 1 (Total results: 2) [SEP] B07Q2M4XNT [SEP] Orlane Fast "
            "Charging Phone Charger With Wall Plug [SEP] $34.50 [SEP] B08C5KD1WR [SEP] Velkin Phone Charger, Wall "
            "Plug, Fast Charging [SEP] $18.99",
            "Both charge fast and have the plug, but the first one is too expensive. I look at the second one.",
            "click[B08C5KD1WR]",
        ),
        Turn(
            "Instruction: [SEP] i need a fast charging phone charger with a wall plug in white, and price lower than "
            "30.00 dollars [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] black [SEP] white [SEP] Velkin Phone "
            "Charger, Wall Plug, Fast Charging [SEP] Price: $18.99 [SEP] Rating: 4.4 [SEP] Description [SEP] Features "
            "[SEP] Reviews [SEP] Buy Now",
            "The title says all that I need to know, so I can leave out Description and Features. White is asked for.",
            "click[white]",
        ),
        Turn(
            "You have clicked white. [SEP] Instruction: [SEP] i need a fast charging phone charger with a wall plug in "
            "white, and price lower than 30.00 dollars [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] black [SEP] "
            "white [SEP] Velkin Phone Charger, Wall Plug, Fast Charging [SEP] Price: $18.99 [SEP] Rating: 4.4 [SEP] "
            "Description [SEP] Features [SEP] Reviews [SEP] Buy Now",
            "Everything that was asked for is there.",
            "click[Buy Now]",
        ),
    )

    def __init__(self) -> None:
        with engine_import("WebShop", "webshop"):
            from agentrm.environments.webshop import generator as webshop_generator
            from agentrm.environments.webshop import goals as webshop_goals
            from agentrm.environments.webshop import official as webshop_official
            from agentrm.environments.webshop import oracle as webshop_oracle
            from agentrm.environments.webshop import pages as webshop_pages
        self._generator, self._goals = webshop_generator, webshop_goals
        self._official, self._oracle, self._pages = webshop_official, webshop_oracle, webshop_pages
        self._task: Task | None = None
        self._catalogue: Catalogue | None = None
        self._goal: Goal | None = None
        self._session: Session = webshop_pages.Session()
        # How many were reached; of AgentBoard's sessions the best rewards of the three steps.
        self._milestones: Any = 0

    @classmethod
    def usual_kinds(cls, split: str) -> tuple[str, ...]:
        # AgentBoard's are the same sessions once more.
        return tuple(kind for kind in super().usual_kinds(split) if kind != agentboard.KIND)

    @classmethod
    def step_limit(cls, kind: str) -> int:
        return agentboard.MAX_STEPS if kind == agentboard.KIND else cls.max_steps

    @classmethod
    def tools(cls, kind: str) -> tuple[Tool, ...]:
        return _TOOLS

    @classmethod
    def action(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{name}[{text_argument(arguments, _ARGUMENTS[name])}]"

    @classmethod
    def call(cls, action: str) -> ToolCall:
        name, _, argument = action.removesuffix("]").partition("[")
        return write_call(name, {_ARGUMENTS[name]: argument})

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self._open(task, self._pages.Session(), (0.0, 0.0, 0.0) if task.kind == agentboard.KIND else 0)
        return Observation(self._page())

    def step(self, action: str) -> Observation:
        parsed = self._pages.parse(action)
        if parsed is None:
            return Observation("Invalid action: it must be search[<keywords>] or click[<button>].")
        verb, argument = parsed
        if verb == "search":
            self._session = self._pages.Session(page="results", results=self._shop.search(argument))
        else:
            buttons = {" ".join(name.lower().split()): (name, after) for name, after in self._buttons().items()}
            if argument not in buttons:
                return Observation(self._refusal())
            before = self._session
            name, self._session = buttons[argument]
            if self._session.page == before.page == "item":
                self._observe()
                return Observation(self._pages.clicked(self._shop, self._session, self._wanted.instruction, name))
        self._observe()
        return Observation(self._page(), done=self._session.page == "done")

    def grade(self) -> Grade:
        outcome = 0.0
        if self._session.page == "done":
            product = self._shop.products[self._session.asin]
            outcome = self._goals.reward(product, self._wanted, self._session.options)
        if isinstance(self._milestones, tuple):
            progress = sum(self._milestones) / 3
        else:
            progress = self._milestones / (3 + len(self._wanted.options))
        return Grade(outcome=outcome, progress=progress, success=outcome >= 1)

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        self.reset(self._task)
        ways = self._oracle.ways(self._shop, self._wanted)
        actions = next((way for way in ways if self._earns_all(way)), [])
        self.reset(self._task)
        return actions

    def thought(self, plan: Sequence[str]) -> str:
        return self._oracle.thought(self._shop, self._session, self._wanted, plan)

    def admissible_actions(self) -> list[str]:
        actions = [f"click[{name}]" for name in self._buttons()]
        if self._session.page == "done":
            return actions
        return [f"search[{self._wanted.instruction}]", *actions]

    def fingerprint(self) -> str:
        return digest(self._task, self._wanted, self._session, self._milestones)

    def snapshot(self) -> Any:
        return self._task, self._session, self._milestones

    def restore(self, state: Any) -> None:
        self._open(*state)

    def close(self) -> None:
        self._catalogue = None

    @property
    def _shop(self) -> Catalogue:
        assert self._catalogue is not None, "reset(task) comes first"
        return self._catalogue

    @property
    def _wanted(self) -> Goal:
        assert self._goal is not None, "reset(task) comes first"
        return self._goal

    def _open(self, task: Task, session: Session, milestones: Any) -> None:
        goal = self.entry(task)
        if goal is None:
            self._catalogue, self._goal = (
                self._generator.small_shop(task)
                if task.kind.endswith(SMALL)
                else (self._generator.catalogue(), self._generator.generated_goal(task))
            )
        else:
            folder = self.official[0].folder
            assert folder is not None
            self._catalogue, self._goal = self._official.official_shop(folder).catalogue, goal
        self._task, self._session, self._milestones = task, session, milestones

    def _page(self) -> str:
        return self._pages.render(self._shop, self._session, self._wanted.instruction)

    def _buttons(self) -> dict[str, Session]:
        return self._pages.buttons(self._shop, self._session)

    def _refusal(self) -> str:
        names = list(self._buttons())
        return f"Invalid action: there is no such button here, only {', '.join(names) or 'search[<keywords>]'}."

    def _observe(self) -> None:
        """Count the milestones that hold now; the most so far stand."""
        session, goal = self._session, self._wanted
        if isinstance(self._milestones, tuple):
            self._milestones = tuple(map(max, self._milestones, self._rewards()))
            return
        now = 0
        if session.page == "results":
            now = int(any(self._goals.fits(self._shop.products[asin], goal) for asin in session.shown(self._shop)))
        elif session.page == "done":
            now = (3 + len(goal.options)) * self.grade().success
        elif session.asin and self._goals.fits(self._shop.products[session.asin], goal):
            chosen = self._goals.option_matches(self._shop.products[session.asin], goal, session.options)
            now = 2 + min(chosen, len(goal.options))
        self._milestones = max(self._milestones, now)

    def _rewards(self) -> tuple[float, float, float]:
        """The best reward of the products that are listed here, of the one that is looked at, and of a purchase."""
        session, goal = self._session, self._wanted
        seen = session.shown(self._shop) if session.page == "results" else [session.asin] if session.asin else []
        products = [self._shop.products[asin] for asin in seen]
        best = max(
            (self._goals.reward(product, goal, self._goals.best_options(product, goal)) for product in products),
            default=0.0,
        )
        if session.page == "results":
            return best, 0.0, 0.0
        return (0.0, 0.0, self.grade().outcome) if session.page == "done" else (0.0, best, 0.0)

    def _earns_all(self, actions: list[str]) -> bool:
        assert self._task is not None
        self.reset(self._task)
        for action in actions:
            self.step(action)
        return len(actions) <= self.max_steps and self.grade().success

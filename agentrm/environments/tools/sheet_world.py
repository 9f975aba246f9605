"""Seeded workbooks: tables of a few themes, and a list of corrections to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from agentrm.environments.tools import names
from agentrm.environments.tools.sheet import Sheet
from agentrm.environments.tools.workbook import SheetState, Value

FEWEST_ROWS, MOST_ROWS = 5, 7


@dataclass(frozen=True, slots=True)
class Number:
    """A column of figures: its name and the range and step that they are drawn from."""

    name: str
    low: int
    high: int
    step: float = 1


@dataclass(frozen=True, slots=True)
class Theme:
    """What a table is about: the first column names its rows, the second groups them, the others are figures.

    `derived` is a column that follows from all figures: its name and the operator that makes it.
    """

    title: str
    key: str
    keys: tuple[str, ...]
    group: str
    groups: tuple[str, ...]
    numbers: tuple[Number, ...]
    derived: tuple[str, str]


_PEOPLE = tuple(f"{first} {last}" for first, last in zip(names.FIRST[::2], names.LAST[::2], strict=False))
THEMES = (
    Theme(
        "the stock of a shop",
        "Product",
        ("Anvil", "Brush", "Candle", "Drill", "Easel", "Funnel", "Gloves", "Hammer", "Lantern", "Mug", "Rope", "Vase"),
        "Category",
        ("Garden", "Home", "Workshop"),
        (Number("Price", 2, 90, 0.5), Number("Stock", 0, 200)),
        ("Value", "PRODUCT"),
    ),
    Theme(
        "the hours of a week",
        "Employee",
        _PEOPLE,
        "Department",
        ("Kitchen", "Office", "Sales"),
        (Number("Hours", 8, 45), Number("Rate", 12, 60, 0.5)),
        ("Pay", "PRODUCT"),
    ),
    Theme(
        "the marks of an exam",
        "Student",
        _PEOPLE[3:],
        "Class",
        ("7a", "7b", "8a"),
        (Number("Biology", 20, 100), Number("History", 20, 100), Number("Music", 20, 100)),
        ("Mean", "AVERAGE"),
    ),
    Theme(
        "the sales of last year",
        "Store",
        (
            "Bridge Street",
            "Castle Hill",
            "Dock Road",
            "Elm Square",
            "Fair Lane",
            "Mill Gate",
            "North Arcade",
            "Old Port",
        ),
        "Region",
        ("East", "South", "West"),
        (Number("Q1", 50, 900), Number("Q2", 50, 900), Number("Q3", 50, 900), Number("Q4", 50, 900)),
        ("Year", "SUM"),
    ),
    Theme(
        "the results of a race",
        "Runner",
        _PEOPLE[6:],
        "Team",
        ("Blue", "Green", "Red"),
        (Number("Lap 1", 60, 90, 0.5), Number("Lap 2", 60, 90, 0.5), Number("Lap 3", 60, 95, 0.5)),
        ("Best", "MIN"),
    ),
    Theme(
        "the shelves of a library",
        "Shelf",
        tuple(f"Shelf {letter}" for letter in "ABCDEFGHJK"),
        "Floor",
        ("Cellar", "Ground", "Upper"),
        (Number("Novels", 0, 80), Number("Comics", 0, 80), Number("Atlases", 0, 30)),
        ("Books", "SUM"),
    ),
    Theme(
        "the harvest of a farm",
        "Field",
        ("Birch Acre", "Crow Field", "Duck Pond", "East Slope", "Fox Hollow", "Long Strip", "Mole Hill", "Stone Rise"),
        "Crop",
        ("Barley", "Oats", "Rye"),
        (Number("Area", 2, 40, 0.5), Number("Yield", 3, 9, 0.5)),
        ("Harvest", "PRODUCT"),
    ),
)


@dataclass(frozen=True, slots=True)
class World:
    """A workbook of three sheets: the table to work on, corrections to one of its figures, and another table."""

    sheet: Sheet
    theme: Theme
    main: str
    corrections: str
    corrected: str
    other: str
    other_theme: Theme


def draw_workbook(random: Random) -> World:
    theme, other_theme = random.sample(THEMES, 2)
    main, corrections, other = (f"Sheet{number}" for number in random.sample(range(1, 100), 3))
    table = _draw_table(random, theme)
    column = random.choice(theme.numbers)
    wrong = random.sample([row[0] for row in table[1:]], random.randint(2, 3))
    listed: list[list[Value]] = [[theme.key, column.name], *([key, draw_number(random, column)] for key in wrong)]
    sheets = [(main, table), (corrections, listed), (other, _draw_table(random, other_theme))]
    random.shuffle(sheets)
    state = None, tuple(_sheet_state(name, rows) for name, rows in sheets)
    return World(Sheet.of(state), theme, main, corrections, column.name, other, other_theme)


def draw_number(random: Random, column: Number) -> float:
    value = column.low + column.step * random.randint(0, round((column.high - column.low) / column.step))
    return int(value) if float(value).is_integer() else value


def _draw_table(random: Random, theme: Theme) -> list[list[Value]]:
    keys = random.sample(theme.keys, random.randint(FEWEST_ROWS, MOST_ROWS))
    header: list[Value] = [theme.key, theme.group, *(column.name for column in theme.numbers)]
    rows: list[list[Value]] = [
        [key, random.choice(theme.groups), *(draw_number(random, n) for n in theme.numbers)] for key in keys
    ]
    return [header, *rows]


def _sheet_state(name: str, rows: list[list[Value]]) -> SheetState:
    cells = tuple(
        (f"{chr(ord('A') + column)}{row}", value, "")
        for row, values in enumerate(rows, 1)
        for column, value in enumerate(values)
    )
    return name, (0, 0), cells, ()

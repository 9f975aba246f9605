import pytest

pytest.importorskip("openpyxl")

from openpyxl import Workbook

from agentrm.environments.tools import workbook
from agentrm.environments.tools.toolkit import ToolError

STATE = (
    "Stock",
    (1, 0),
    (("A1", "Title", ""), ("A2", "Rope", "seen"), ("B2", 2.5, ""), ("C3", None, "empty, but noted")),
    ("A1:B1",),
)


def test_a_sheet_is_its_state() -> None:
    book = Workbook()
    workbook.build(book, STATE)
    sheet = book["Stock"]
    assert workbook.dump(sheet) == STATE
    assert workbook.size(sheet) == (3, 3)
    assert workbook.frozen(sheet) == (1, 0)
    _ = sheet["Z50"].value
    assert workbook.dump(sheet) == STATE
    assert workbook.size(sheet) == (3, 3)


def test_facts_leave_out_how_it_is_frozen() -> None:
    book = Workbook()
    workbook.build(book, STATE)
    assert workbook.facts(book["Stock"]) == {
        ("Stock",): True,
        ("Stock", "A1"): "Title",
        ("Stock", "A2"): "Rope",
        ("Stock", "B2"): 2.5,
        ("Stock", "A2", "note"): "seen",
        ("Stock", "C3", "note"): "empty, but noted",
        ("Stock", "A1:B1", "merged"): True,
    }


@pytest.mark.parametrize(
    ("typed", "stored"),
    [("5", 5), ("5.0", 5), (5.0, 5), ("", None), (None, None), ("5 kg", "5 kg"), ("nan", "nan"), (1 / 3, 0.333333)],
)
def test_values_are_stored_as_typed_into_a_sheet(typed, stored) -> None:
    found = workbook.normal(typed)
    assert found == stored
    assert type(found) is type(stored)


@pytest.mark.parametrize(("value", "text"), [("=A1", "update_cell_by_formula"), ("a\x00", "control characters")])
def test_values_that_no_cell_holds(value: str, text: str) -> None:
    with pytest.raises(ToolError, match=text):
        workbook.normal(value)


@pytest.mark.parametrize(
    ("operator", "arguments", "value"),
    [
        ("SUM", [1, "x", "", 2.5], 3.5),
        ("SUM", ["x"], 0),
        ("SUM", [0.1, 0.2], 0.3),
        ("AVERAGE", [1, "", 2], 1.5),
        ("COUNT", [1, "x", "", 0], 2),
        ("MAX", [-3, "x", -1], -1),
        ("MIN", [3, 1, 2], 1),
        ("MIN", [""], 0),
        ("MINUS", [5, 7], -2),
        ("PRODUCT", [2, 3, 0.5, "x"], 3),
    ],
)
def test_formulas(operator, arguments, value) -> None:
    found = workbook.evaluate(operator, arguments)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("operator", "arguments", "text"),
    [
        ("AVERAGE", ["x"], "#DIV/0!"),
        ("MINUS", [1], "#VALUE!"),
        ("MINUS", [1, "x"], "#VALUE!"),
        ("PRODUCT", [1e300, 1e300], "#NUM!"),
    ],
)
def test_formulas_without_a_value(operator, arguments, text) -> None:
    with pytest.raises(ToolError, match=text):
        workbook.evaluate(operator, arguments)

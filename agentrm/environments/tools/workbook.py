"""An openpyxl workbook as plain values: its whole state, what counts of it, and single cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from openpyxl import Workbook
from openpyxl.cell import Cell, MergedCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.comments import Comment
from openpyxl.utils import get_column_letter
from openpyxl.utils.cell import coordinate_to_tuple
from openpyxl.worksheet.worksheet import Worksheet

from agentrm.environments.tools.operation import Facts
from agentrm.environments.tools.toolkit import ToolError

ROWS, COLUMNS = 100, 26
DECIMALS = 6
_LARGEST_EXACT = 2.0**53

Value = str | float | None
SheetState = tuple[str, tuple[int, int], tuple[tuple[str, Value, str], ...], tuple[str, ...]]
"""Title; frozen rows and columns; position, value and note of each cell that has one of them; merged ranges."""


def dump(sheet: Worksheet) -> SheetState:
    cells = tuple((cell.coordinate, cell.value, note_of(cell)) for cell in filled(sheet))
    return sheet.title, frozen(sheet), cells, merged_ranges(sheet)


def build(book: Workbook, state: SheetState) -> None:
    """Add a sheet to a workbook."""
    title, panes, cells, merged = state
    sheet = book.create_sheet(title)
    freeze(sheet, *panes)
    for position, value, note in cells:
        sheet[position].value = value
        set_note(sheet[position], note)
    for merged_range in merged:
        sheet.merge_cells(merged_range)


def facts(sheet: Worksheet) -> Facts:
    """What a task can ask for: that the sheet exists, its values, notes and merged ranges (how it is frozen is not)."""
    title, _, cells, merged = dump(sheet)
    entries: Facts = {(title,): True}
    entries |= {(title, position): value for position, value, _ in cells if value is not None}
    entries |= {(title, position, "note"): note for position, _, note in cells if note}
    return entries | {(title, merged_range, "merged"): True for merged_range in merged}


def filled(sheet: Worksheet) -> Iterator[Cell]:
    """The cells with a value or a note. Others may exist or not, for openpyxl makes a cell when it is looked at."""
    for row in sheet.iter_rows():
        for cell in row:
            if isinstance(cell, Cell) and (cell.value is not None or cell.comment):
                yield cell


def size(sheet: Worksheet) -> tuple[int, int]:
    """The last row and the last column that hold anything, 0 in an empty sheet."""
    corners = [(cell.row, cell.column) for cell in filled(sheet)]
    corners += [(merged_range.max_row, merged_range.max_col) for merged_range in sheet.merged_cells.ranges]
    return max((row for row, _ in corners), default=0), max((column for _, column in corners), default=0)


def merged_ranges(sheet: Worksheet) -> tuple[str, ...]:
    return tuple(sorted(merged_range.coord for merged_range in sheet.merged_cells.ranges))


def frozen(sheet: Worksheet) -> tuple[int, int]:
    """How many rows and columns are frozen."""
    row, column = coordinate_to_tuple(sheet.freeze_panes or "A1")
    return row - 1, column - 1


def freeze(sheet: Worksheet, rows: int, columns: int) -> None:
    sheet.freeze_panes = f"{get_column_letter(columns + 1)}{rows + 1}"


def values(sheet: Worksheet, rows: range, columns: range) -> list[list[Value]]:
    """The values of a range, row by row; an empty cell is an empty text."""
    contents = sheet.iter_rows(rows.start, rows.stop - 1, columns.start, columns.stop - 1, values_only=True)
    return [["" if value is None else value for value in row] for row in contents] if rows and columns else []


def cell(sheet: Worksheet, row: int, column: int) -> Cell:
    """A cell that can be written. Raises ToolError inside a merged range."""
    target = sheet.cell(row, column)
    if isinstance(target, MergedCell):
        raise ToolError(f"{target.coordinate} is inside a merged range")
    return target


def normal(value: Value) -> Value:
    """A value as a cell stores it: a text that is a number becomes one, an empty text none. Raises ToolError."""
    if isinstance(value, str):
        if value.startswith("="):
            raise ToolError("a cell holds values only: compute one with update_cell_by_formula")
        if ILLEGAL_CHARACTERS_RE.search(value):
            raise ToolError("a cell cannot hold control characters")
        try:
            number = float(value)
        except ValueError:
            return value or None
        value = number if math.isfinite(number) else value
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() and abs(value) < _LARGEST_EXACT else round(value, DECIMALS)


def note_of(cell: Cell) -> str:
    return cell.comment.text if cell.comment else ""


def set_note(cell: Cell, note: str) -> None:
    cell.comment = Comment(note, "agent") if note else None


_FUNCTIONS: dict[str, Callable[[list[float]], float]] = {
    "SUM": math.fsum,
    "AVERAGE": lambda numbers: math.fsum(numbers) / len(numbers),
    "MAX": max,
    "MIN": min,
    "MINUS": lambda numbers: numbers[0] - numbers[1],
    "PRODUCT": lambda numbers: math.prod(map(float, numbers)),
}


def evaluate(operator: str, arguments: list[Value]) -> float:
    """A spreadsheet function of cells; texts and empty cells do not count. Raises ToolError with the sheet's error."""
    numbers = [value for value in arguments if isinstance(value, int | float)]
    if operator == "MINUS" and (len(arguments) != 2 or len(numbers) != 2):
        raise ToolError("#VALUE!: MINUS wants exactly two numbers")
    if operator == "AVERAGE" and not numbers:
        raise ToolError("#DIV/0!: AVERAGE of no numbers")
    if operator == "COUNT":
        return len(numbers)
    if not numbers:
        return 0
    result = _FUNCTIONS[operator](numbers)
    if not math.isfinite(result):
        raise ToolError(f"#NUM!: {operator} is too large")
    number = normal(float(result))
    assert isinstance(number, int | float)
    return number

"""Tools that read and edit a workbook."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from openpyxl import Workbook
from openpyxl.utils import get_column_letter
from openpyxl.utils.cell import coordinate_to_tuple
from openpyxl.worksheet.worksheet import Worksheet
from pydantic import Field

from agentrm.environments.tools import workbook
from agentrm.environments.tools.operation import Facts, OperationToolkit
from agentrm.environments.tools.toolkit import ToolError, tool
from agentrm.environments.tools.workbook import COLUMNS, ROWS, SheetState, Value

Values = list[list[Value]]
Row = Annotated[int, Field(ge=1, le=ROWS)]
Column = Annotated[int, Field(ge=1, le=COLUMNS)]
Position = Annotated[str, Field(pattern=r"^[A-Z](100|[1-9][0-9]?)$", json_schema_extra={"format": "A1 position"})]
Operator = Literal["SUM", "AVERAGE", "COUNT", "MAX", "MIN", "MINUS", "PRODUCT"]
State = tuple[str | None, tuple[SheetState, ...]]


class Sheet(OperationToolkit):
    """A workbook of which one sheet is open, or none. Formulas store the value that they have at that moment."""

    def __init__(self, state: State) -> None:
        self._opened, sheets = state
        self._book = Workbook()
        self._book.remove(self._book.worksheets[0])
        for sheet in sheets:
            workbook.build(self._book, sheet)

    @classmethod
    def of(cls, state: State) -> Sheet:
        return cls(state)

    def save(self) -> State:
        return self._opened, tuple(workbook.dump(sheet) for sheet in self._book.worksheets)

    def facts(self) -> Facts:
        facts: Facts = {}
        for sheet in self._book.worksheets:
            facts |= workbook.facts(sheet)
        return facts

    def close(self) -> None:
        self._book.close()

    @tool
    def open_sheet(self, name: str) -> str:
        """open a sheet; all others work on the open sheet"""
        self._opened = self._sheet(name).title
        return f"You are now in {self._opened}."

    @tool
    def del_sheet(self, name: str) -> str:
        """delete a sheet"""
        sheet = self._sheet(name)
        if len(self._book.worksheets) == 1:
            raise ToolError("the only sheet cannot be deleted")
        self._book.remove(sheet)
        if self._opened == sheet.title:
            self._opened = None
        return f"{sheet.title} is deleted."

    @tool
    def freeze_data(self, dimension: Literal["rows", "columns"], num: Annotated[int, Field(ge=0, le=25)]) -> str:
        """freeze the first rows or columns; frozen rows are not sorted"""
        rows, columns = workbook.frozen(self._open)
        workbook.freeze(self._open, *((num, columns) if dimension == "rows" else (rows, num)))
        return f"Frozen {dimension}: {num}."

    @tool
    def get_A1_annotation(self, row: Row, col: Column) -> str:  # noqa: N802 - the field's name
        """A1 notation of a cell; rows and columns count from 1"""
        return f"{get_column_letter(col)}{row}"

    @tool
    def insert_cols(self, values_list: Values, col_idx: Column) -> Values:
        """insert columns before column col_idx, each a list of values from the top"""
        sheet, new_columns = self._restructured, _normal(values_list)
        columns = max(col_idx - 1, workbook.size(sheet)[1]) + len(new_columns)
        _check_fits(max(map(len, new_columns), default=0), columns)
        sheet.insert_cols(col_idx, len(new_columns))
        for column, values in enumerate(new_columns, col_idx):
            for row, value in enumerate(values, 1):
                sheet.cell(row, column).value = value
        return self.get_all_values()

    @tool
    def insert_rows(self, values_list: Values, row_idx: Row) -> Values:
        """insert rows before row row_idx, each a list of values from the left"""
        sheet, new_rows = self._restructured, _normal(values_list)
        rows = max(row_idx - 1, workbook.size(sheet)[0]) + len(new_rows)
        _check_fits(rows, max(map(len, new_rows), default=0))
        sheet.insert_rows(row_idx, len(new_rows))
        for row, values in enumerate(new_rows, row_idx):
            for column, value in enumerate(values, 1):
                sheet.cell(row, column).value = value
        return self.get_all_values()

    @tool
    def delete_batch_data(self, dimension: Literal["row", "col"], index_list: list[Row]) -> Values:
        """delete the rows or columns with these numbers, all at once"""
        sheet = self._restructured
        last = workbook.size(sheet)[0 if dimension == "row" else 1]
        numbers = sorted(set(index_list), reverse=True)
        if numbers and numbers[0] > last:
            raise ToolError(f"there is no {dimension} {numbers[0]}: the last one is {last}")
        if numbers and len(numbers) == last:
            raise ToolError("the whole sheet cannot be deleted at once")
        for number in numbers:
            (sheet.delete_rows if dimension == "row" else sheet.delete_cols)(number)
        return self.get_all_values()

    @tool
    def update_cell(self, position: Position, value: Value) -> Values:
        """set the value of a cell"""
        return self.update_range(position, position, [[value]])

    @tool
    def update_cell_by_formula(
        self,
        operator: Operator,
        result_position: Position,
        start_position: Position | None = None,
        end_position: Position | None = None,
        position_list: list[Position] | None = None,
    ) -> Values:
        """compute a value from a range or a list of cells and store it in result_position"""
        value = self.get_value_by_formula(operator, start_position, end_position, position_list)
        return self.update_cell(result_position, value)

    @tool
    def update_range(self, start_position: Position, end_position: Position, values_list: Values) -> Values:
        """set the values of a range, row by row"""
        rows, columns = _range(start_position, end_position)
        new_rows = _normal(values_list)
        if [len(row) for row in new_rows] != [len(columns)] * len(rows):
            raise ToolError(f"{start_position}:{end_position} wants {len(rows)} rows of {len(columns)} values")
        cells = [workbook.cell(self._open, row, column) for row in rows for column in columns]
        for cell, value in zip(cells, (value for row in new_rows for value in row), strict=True):
            cell.value = value
        return self.get_all_values()

    @tool
    def sort_sheet_by_col(self, col_num: Column, order: Literal["asc", "des"]) -> Values:
        """sort the rows that are not frozen by a column: numbers before texts, empty cells last"""
        sheet = self._restructured
        last, columns = workbook.size(sheet)
        start = workbook.frozen(sheet)[0] + 1
        rows = [[sheet.cell(row, column) for column in range(1, columns + 1)] for row in range(start, last + 1)]
        contents = [[(cell.value, workbook.note_of(cell)) for cell in row] for row in rows]
        keys = [sheet.cell(row, col_num).value for row in range(start, last + 1)]
        full = [n for n, key in enumerate(keys) if key is not None]
        full.sort(key=lambda n: _rank(keys[n]), reverse=order == "des")
        empty = [n for n, key in enumerate(keys) if key is None]
        for row, source in zip(rows, full + empty, strict=True):
            for cell, (value, note) in zip(row, contents[source], strict=True):
                cell.value = value
                workbook.set_note(cell, note)
        return self.get_all_values()

    @tool
    def merge_cells(self, start_position: Position, end_position: Position) -> Values:
        """merge a range into one cell, which keeps the first value"""
        rows, columns = _range(start_position, end_position)
        if len(rows) * len(columns) == 1:
            raise ToolError("one cell alone cannot be merged")
        for merged in self._open.merged_cells.ranges:
            apart = merged.max_row < rows.start or merged.min_row >= rows.stop
            if not (apart or merged.max_col < columns.start or merged.min_col >= columns.stop):
                raise ToolError(f"{start_position}:{end_position} overlaps the merged range {merged.coord}")
        self._open.merge_cells(f"{start_position}:{end_position}")
        return self.get_all_values()

    @tool
    def update_note(self, position: Position, content: str) -> str:
        """set the note of a cell; an empty one deletes it"""
        workbook.set_note(workbook.cell(self._open, *coordinate_to_tuple(position)), content)
        return f"The note of {position}: {content}"

    @tool
    def get_all_values(self) -> Values:
        """all values of the sheet, row by row"""
        rows, columns = workbook.size(self._open)
        return workbook.values(self._open, range(1, rows + 1), range(1, columns + 1))

    @tool
    def get_range_values(self, start_position: Position, end_position: Position) -> Values:
        """the values of a range, row by row"""
        return workbook.values(self._open, *_range(start_position, end_position))

    @tool
    def get_cell_value(self, position: Position) -> Value:
        """the value of a cell"""
        return self.get_range_values(position, position)[0][0]

    @tool
    def get_value_by_formula(
        self,
        operator: Operator,
        start_position: Position | None = None,
        end_position: Position | None = None,
        position_list: list[Position] | None = None,
    ) -> float:
        """compute a value from a range or a list of cells"""
        if position_list is not None:
            values = [self.get_cell_value(position) for position in position_list]
        elif start_position and end_position:
            values = [value for row in self.get_range_values(start_position, end_position) for value in row]
        else:
            raise ToolError("give start_position and end_position, or position_list")
        return workbook.evaluate(operator, values)

    @tool
    def filter_cells(self, query: str, in_row: Row | None = None, in_column: Column | None = None) -> list[str]:
        """positions of the cells whose value is equal to the query, in one row or column or everywhere"""
        return [
            cell.coordinate
            for cell in workbook.filled(self._open)
            if str(cell.value) == query and in_row in (None, cell.row) and in_column in (None, cell.column)
        ]

    @tool
    def get_note(self, position: Position) -> str:
        """the note of a cell"""
        return workbook.note_of(self._open[position])

    @tool
    def finish(self) -> str:
        """end the task"""
        return "The task is ended."

    def values(self) -> dict[str, list[Any]]:
        positions = [f"{column}{row}" for row in (2, 3) for column in "ABC"]
        return {
            "name": self._book.sheetnames,
            "dimension": ["rows"],
            "num": [1],
            "row": [2, 3],
            "col": [1, 2],
            "position": positions,
            "value": [7] * len(positions),
            "content": ["checked"] * len(positions),
            "start_position": positions[:2],
            "end_position": positions[-2:],
            "values_list": [[["new"]]],
            "col_idx": [2],
            "row_idx": [3],
            "col_num": [1, 2],
            "order": ["asc", "des"],
        }

    @property
    def _open(self) -> Worksheet:
        if self._opened is None:
            raise ToolError("no sheet is open: call open_sheet first")
        return self._book[self._opened]

    @property
    def _restructured(self) -> Worksheet:
        """The open sheet, unless merged cells forbid to move its cells."""
        if self._open.merged_cells.ranges:
            raise ToolError(f"{self._opened} has merged cells: its rows and columns cannot be moved")
        return self._open

    def _sheet(self, name: str) -> Worksheet:
        if name not in self._book.sheetnames:
            raise ToolError(f"there is no sheet {name[:80]}: choose one of {', '.join(self._book.sheetnames)}")
        return self._book[name]


def _range(start: str, end: str) -> tuple[range, range]:
    """The rows and columns of a range. Raises ToolError unless it starts above and left of its end."""
    (top, left), (bottom, right) = coordinate_to_tuple(start), coordinate_to_tuple(end)
    if bottom < top or right < left:
        raise ToolError(f"{start}:{end} ends before it starts")
    return range(top, bottom + 1), range(left, right + 1)


def _normal(values_list: Values) -> Values:
    return [[workbook.normal(value) for value in values] for values in values_list]


def _check_fits(rows: int, columns: int) -> None:
    if rows > ROWS or columns > COLUMNS:
        raise ToolError(f"a sheet has at most {ROWS} rows and {COLUMNS} columns")


def _rank(value: Value) -> tuple[bool, Any]:
    return isinstance(value, str), value

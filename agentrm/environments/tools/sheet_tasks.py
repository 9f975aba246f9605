"""Tasks on a workbook: one or two edits of a table, each made by the calls of the tools."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from agentrm.environments.tools.reference import Reference, Unfit, best, some
from agentrm.environments.tools.sheet_world import World, draw_number

Edit = Callable[["Table"], str]
"""Makes the calls of one edit and says what was to be done."""


class Table:
    """The table that a task is about, as the agent knows it after each call."""

    def __init__(self, call: Reference, random: Random, world: World) -> None:
        self._call, self.random, self.world, self.theme = call, random, world, world.theme
        self.values: list[list[Any]] = []

    def call(self, tool: str, /, **arguments: Any) -> Any:
        result = self._call(tool, **arguments)
        # What changes a sheet answers with all its values.
        if isinstance(result, list) and tool not in ("filter_cells", "get_range_values"):
            self.values = result
        return result

    @property
    def rows(self) -> list[tuple[int, list[Any]]]:
        """The rows below the header with their numbers in the sheet."""
        return list(enumerate(self.values[1:], 2))

    def column(self, name: str) -> int:
        """The number of a column, from 1."""
        if name not in self.values[0]:
            raise Unfit
        return self.values[0].index(name) + 1

    def at(self, name: str, row: int) -> str:
        """The position of a cell in a column."""
        return f"{chr(ord('A') + self.column(name) - 1)}{row}"

    def figures(self) -> str:
        """The name of one of the columns of figures that are still there."""
        return self.random.choice([column.name for column in self.theme.numbers if column.name in self.values[0]])

    def group(self) -> str:
        """A group that some rows are in, but not all."""
        place = self.column(self.theme.group) - 1
        groups = [row[place] for _, row in self.rows]
        if len(set(groups)) < 2:
            raise Unfit
        return self.random.choice(groups)

    def members(self, group: str) -> list[int]:
        place = self.column(self.theme.group) - 1
        return [number for number, row in self.rows if row[place] == group]

    def extreme(self, column: str, *, least: bool) -> int:
        """The number of the row with the largest or least figure."""
        place = self.column(column) - 1
        return best(self.rows, lambda item: item[1][place], least=least)[0]


def _sort(table: Table) -> str:
    column, order = table.figures(), table.random.choice(("asc", "des"))
    place = table.column(column)
    figures = [row[place - 1] for _, row in table.rows]
    if len(set(figures)) < len(figures):
        raise Unfit
    table.call("freeze_data", dimension="rows", num=1)
    table.call("sort_sheet_by_col", col_num=place, order=order)
    return f"sort the rows below the header by {column}, {'smallest' if order == 'asc' else 'largest'} first"


def _delete_by_figure(table: Table) -> str:
    column, word = table.figures(), table.random.choice(("below", "above"))
    place = table.column(column) - 1
    figures = sorted(row[place] for _, row in table.rows)
    limit = table.random.choice(figures[1:-1])
    doomed = [n for n, row in table.rows if (row[place] < limit if word == "below" else row[place] > limit)]
    table.call("delete_batch_data", dimension="row", index_list=some(doomed))
    return f"delete the rows whose {column} is {word} {limit}"


def _delete_by_group(table: Table) -> str:
    group = table.group()
    table.call("delete_batch_data", dimension="row", index_list=table.members(group))
    return f"delete the rows whose {table.theme.group} is {group}"


def _keep_best(table: Table) -> str:
    column, count = table.figures(), table.random.randint(2, 3)
    place = table.column(column) - 1
    ranked = sorted(table.rows, key=lambda item: item[1][place], reverse=True)
    if len(ranked) <= count or ranked[count - 1][1][place] == ranked[count][1][place]:
        raise Unfit
    table.call("delete_batch_data", dimension="row", index_list=sorted(number for number, _ in ranked[count:]))
    return f"keep the header and the {count} rows with the largest {column}, and delete the others"


def _delete_column(table: Table) -> str:
    column = table.random.choice([table.theme.group, table.figures()])
    table.call("delete_batch_data", dimension="col", index_list=[table.column(column)])
    return f"delete the column {column}"


def _append(table: Table) -> str:
    theme, random = table.theme, table.random
    known = [row[0] for _, row in table.rows]
    key = random.choice([candidate for candidate in theme.keys if candidate not in known])
    fields: dict[str, Any] = {theme.key: key, theme.group: random.choice(theme.groups)}
    fields |= {column.name: draw_number(random, column) for column in theme.numbers}
    row = [fields[name] for name in table.values[0]]
    table.call("insert_rows", values_list=[row], row_idx=len(table.values) + 1)
    written = ", ".join(f"{name} {value}" for name, value in zip(table.values[0], row, strict=True))
    return f"add a row at the end with {written}"


def _change_group(table: Table) -> str:
    group, column = table.group(), table.figures()
    amount, word = table.random.randint(1, 20), table.random.choice(("Raise", "Lower"))
    for number in table.members(group):
        value = table.values[number - 1][table.column(column) - 1]
        table.call(
            "update_cell", position=table.at(column, number), value=value + (amount if word == "Raise" else -amount)
        )
    return f"{word.lower()} the {column} of every row whose {table.theme.group} is {group} by {amount}"


def _rename_group(table: Table) -> str:
    group, suffix = table.group(), table.random.choice(("A", "B", "New", "Old", "2"))
    for position in table.call("filter_cells", query=group, in_column=table.column(table.theme.group)):
        table.call("update_cell", position=position, value=f"{group} {suffix}")
    return f'rename the {table.theme.group} {group} to "{group} {suffix}" wherever it occurs'


def _correct(table: Table) -> str:
    world = table.world
    table.column(world.corrected)
    table.call("open_sheet", name=world.corrections)
    listed = dict(map(tuple, table.call("get_all_values")[1:]))
    table.call("open_sheet", name=world.main)
    table.call("get_all_values")
    for number, row in table.rows:
        if row[0] in listed:
            table.call("update_cell", position=table.at(world.corrected, number), value=listed[row[0]])
    return f"correct its {world.corrected} for the entries that {world.corrections} lists, with the figures given there"


def _derive(table: Table) -> str:
    theme = table.theme
    name, operator = theme.derived
    width, names = len(table.values[0]), [column.name for column in theme.numbers]
    heading = f"{chr(ord('A') + width)}1"
    table.call("update_cell", position=heading, value=name)
    for number, _ in table.rows:
        positions = [table.at(column, number) for column in names]
        table.call(
            "update_cell_by_formula", operator=operator, position_list=positions, result_position=table.at(name, number)
        )
    word = {"SUM": "sum", "AVERAGE": "average", "PRODUCT": "product", "MIN": "minimum"}[operator]
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"add a column {name} on the right that holds the {word} of {listed} for every row"


def _summarise(table: Table) -> str:
    operator, word = table.random.choice((("SUM", "Total"), ("AVERAGE", "Average"), ("MAX", "Maximum")))
    last = len(table.values)
    names = [column.name for column in table.theme.numbers if column.name in table.values[0]]
    table.call("update_cell", position=f"A{last + 1}", value=word)
    for name in names:
        start, end, result = (table.at(name, row) for row in (2, last, last + 1))
        table.call(
            "update_cell_by_formula", operator=operator, start_position=start, end_position=end, result_position=result
        )
    return f"add a row at the end with {word} in column A and the {word.lower()} of {', '.join(names)} below each"


def _group_figure(table: Table) -> str:
    group, column = table.group(), table.figures()
    operator, word = table.random.choice(
        (("SUM", "total"), ("AVERAGE", "average"), ("MAX", "largest"), ("MIN", "least"))
    )
    positions = [table.at(column, number) for number in table.members(group)]
    result = f"{table.random.choice('HJK')}{table.random.randint(1, 5)}"
    table.call("update_cell_by_formula", operator=operator, position_list=positions, result_position=result)
    return f"write the {word} {column} of the rows whose {table.theme.group} is {group} into {result}"


def _group_count(table: Table) -> str:
    group, result = table.group(), f"{table.random.choice('HJK')}{table.random.randint(1, 5)}"
    table.call("update_cell", position=result, value=len(table.members(group)))
    return f"write into {result} how many rows have the {table.theme.group} {group}"


def _name_extreme(table: Table) -> str:
    column, least = table.figures(), table.random.random() < 0.5
    number, result = table.extreme(column, least=least), f"{table.random.choice('HJK')}{table.random.randint(1, 5)}"
    table.call("update_cell", position=result, value=table.values[number - 1][0])
    return f"write the {table.theme.key} with the {'smallest' if least else 'largest'} {column} into {result}"


def _note(table: Table) -> str:
    column, least = table.figures(), table.random.random() < 0.5
    text = table.random.choice(("check this", "well done", "ask again", "seen", "call back"))
    table.call("update_note", position=table.at(column, table.extreme(column, least=least)), content=text)
    return f'put the note "{text}" on the cell that holds the {"smallest" if least else "largest"} {column}'


def _title(table: Table) -> str:
    text = table.random.choice(("Overview", "Summary", "Draft", "Final list", "For review"))
    last = chr(ord("A") + len(table.values[0]) - 1)
    table.call("insert_rows", values_list=[[text]], row_idx=1)
    table.call("merge_cells", start_position="A1", end_position=f"{last}1")
    return f'insert a new first row with "{text}" in A1, and merge its cells from A1 to {last}1'


def _delete_other(table: Table) -> str:
    world = table.world
    table.call("open_sheet", name=world.other)
    table.call("get_all_values")
    table.call("del_sheet", name=world.other)
    names = " or ".join(sorted((world.other, world.corrections)))
    return f"delete the sheet with {world.other_theme.title} ({names})"


FIRST_EDITS: tuple[Edit, ...] = (
    _sort,
    _delete_by_figure,
    _delete_by_group,
    _keep_best,
    _delete_column,
    _append,
    _change_group,
    _rename_group,
    _correct,
)
LAST_EDITS: tuple[Edit, ...] = (
    _derive,
    _summarise,
    _group_figure,
    _group_count,
    _name_extreme,
    _note,
    _title,
    _delete_other,
)


def draw_task(call: Reference, random: Random, world: World) -> str:
    """Make the calls of one or two edits, and return the goal. Raises Unfit."""
    first, last = random.choice(FIRST_EDITS), random.choice(LAST_EDITS)
    chosen = random.choice(([first], [last], [first, last]))
    table = Table(call, random, world)
    table.call("open_sheet", name=world.main)
    table.call("get_all_values")
    wishes = [edit(table) for edit in chosen]
    return f"{world.main} holds {world.theme.title}. Please {'; then '.join(wishes)}."

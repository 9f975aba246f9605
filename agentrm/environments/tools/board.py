"""AgentBoard's ToolOperation: its workbook and its projects, from its code, worked on with our tools, and its metric.

A workbook counts by the cells of the open sheet that are those of the answer, of as many rows and columns as both
have; a to-do list by the results of the reference calls that were seen. The best so far stands, an episode ends with
`finish`, and it is solved where all is reached by then. A sheet's start counts from the first call on. AgentBoard
compares the texts that Google Sheets shows; here numbers within 0.01 are the same, and so is what two results both say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils.cell import coordinate_to_tuple, range_boundaries
from openpyxl.worksheet.worksheet import Worksheet

from agentrm.core.errors import UserError
from agentrm.core.task import Grade
from agentrm.environments import agentboard
from agentrm.environments.official import Published, identity
from agentrm.environments.tools import workbook
from agentrm.environments.tools.operation import Marks, OperationToolkit
from agentrm.environments.tools.recorded import Recording, recordings, reference_calls
from agentrm.environments.tools.reference import same_answer, same_number
from agentrm.environments.tools.sheet import Sheet
from agentrm.environments.tools.todo import State, Todo
from agentrm.environments.tools.toolkit import ToolError, write_action, write_result
from agentrm.environments.tools.workbook import COLUMNS, ROWS, SheetState, Value

LINES = "tool-operation"
WORKBOOK, PROJECTS = "sheet/Test Sheet-For Copy.xlsx", "todo/projects.json"
_TOOLKITS: dict[str, type[OperationToolkit]] = {"sheet": Sheet, "todo": Todo}
_FIRST_ID = 10**9
# What a change of the list reports, whatever its words.
_DEED = re.compile(r"complete|update|delete")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class _ToFinish:
    """An episode that `finish` ends, and that is solved where all is reached and `right` by then."""

    __slots__ = ()

    def over(self, marks: Marks) -> bool:
        return marks.finished

    def grade(self, marks: Marks) -> Grade:
        share = self._share(marks)
        return Grade(outcome=share, progress=share, success=marks.finished and marks.right and share == 1)

    def _share(self, marks: Marks) -> float:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class BoardSheet(_ToFinish):
    """Edits of one sheet, which is open at the start and has its values told; `wanted` are the rows that it is to have.
    Only it is in the workbook.
    """

    goal: str
    sheet: SheetState
    wanted: tuple[tuple[str, ...], ...]
    calls: tuple[str, ...]

    @property
    def opening(self) -> str:
        return f"\nYou are now in {self.sheet[0]}.\n{write_result(grid(self.sheet))}"

    @property
    def actions(self) -> tuple[str, ...]:
        """The reference calls where these tools get to the answer by them, else none."""
        actions = *self.calls, write_action("finish", {})
        kit, marks = self.kit(), Marks()
        try:
            for action in actions:
                name, arguments = kit.parse(action)
                marks = self.note(marks, kit, name, arguments, write_result(kit.run(name, arguments)))
        except ToolError:
            return ()
        finally:
            kit.close()
        return actions if self.grade(marks).success else ()

    def kit(self, world: Any = None) -> OperationToolkit:
        return Sheet.of((self.sheet[0], (self.sheet,)) if world is None else world)

    def note(self, marks: Marks, kit: OperationToolkit, name: str, arguments: dict[str, Any], text: str) -> Marks:
        opened, sheets = kit.save()
        rows = next((grid(sheet) for sheet in sheets if sheet[0] == opened), [])
        over = name == "finish"
        return Marks(max(marks.reached, match(rows, self.wanted)), over, over)

    def _share(self, marks: Marks) -> float:
        return float(marks.reached)


@dataclass(frozen=True, slots=True)
class BoardTodo(_ToFinish):
    """Work on a to-do list: `results` are what the reference calls returned, `left` is how open tasks and projects are
    to be in the end (None where only the results count).
    """

    goal: str
    state: State
    results: tuple[Any, ...]
    left: tuple[Any, ...] | None
    opening: str = ""
    actions: tuple[str, ...] = ()
    """There is no oracle: the ids in the reference calls are those of another account."""

    def kit(self, world: Any = None) -> OperationToolkit:
        return Todo.of(self.state if world is None else world)

    def note(self, marks: Marks, kit: OperationToolkit, name: str, arguments: dict[str, Any], text: str) -> Marks:
        said = arguments.get("answer") if name == "finish" else _plain(text)
        seen = marks.reached or ()
        new = [number for number, result in enumerate(self.results) if number not in seen and says(said, result, name)]
        over = name == "finish"
        right = over and (self.left is None or _left(kit.save()) == self.left)
        return Marks(tuple(sorted((*seen, *new[:1]))), over, right)

    def _share(self, marks: Marks) -> float:
        return len(marks.reached or ()) / len(self.results)


@dataclass(frozen=True, slots=True)
class RecordedOperation(_ToFinish):
    """A test whose calls get recorded answers: the share of the results that were seen, a right answer, where one is
    asked for, being one more.
    """

    recording: Recording
    opening: str = ""

    @property
    def goal(self) -> str:
        return self.recording.goal

    @property
    def actions(self) -> tuple[str, ...]:
        return self.recording.actions

    def kit(self, world: Any = None) -> OperationToolkit:
        kit: OperationToolkit = self.recording.kit(world or frozenset())
        return kit

    def note(self, marks: Marks, kit: OperationToolkit, name: str, arguments: dict[str, Any], text: str) -> Marks:
        if name == "finish":
            given, asked = arguments.get("answer"), self.recording.answer
            right = asked is None or (given is not None and same_answer(given, asked))
            return replace(marks, finished=True, right=right)
        seen = marks.reached or ()
        new = [number for number, result in enumerate(self.recording.results) if result == text and number not in seen]
        return replace(marks, reached=tuple(sorted((*seen, *new))))

    def _share(self, marks: Marks) -> float:
        asks = self.recording.answer is not None
        return (len(marks.reached or ()) + (asks and marks.right)) / (len(self.recording.results) + asks)


def recorded_operations(folder: Path, tool: str) -> Published:
    """The tests of a tool whose reference calls were recorded. Raises UserError as `recordings` does."""
    published = recordings(folder, LINES, tool, _TOOLKITS[tool])
    return replace(published, entries=tuple(map(RecordedOperation, published.entries)))


def published_operations(tools: Path, kind: str) -> Published:
    """AgentBoard's tests of a kind: its lines, in the folder that AGENTBOARD_DATA names, on the start in its code's
    `agentboard/utils`, here `tools`. Raises UserError where one of these is not there, or no line can be used.
    """
    board = agentboard.named_folder(agentboard.DATA_VARIABLE)
    if board is None:
        raise UserError(
            f"AGENTBOARD_TOOLS={tools} needs AgentBoard's tests beside it: get {agentboard.SOURCE}, and let "
            f"{agentboard.DATA_VARIABLE} name its folder"
        )
    path = tools / (WORKBOOK if kind == "sheet" else PROJECTS)
    if not path.is_file():
        raise UserError(f"AGENTBOARD_TOOLS={tools} holds no {path.relative_to(tools)}: name AgentBoard's "
                        "agentboard/utils, or unset it")  # fmt: skip
    left_out: dict[str, str] = {}
    start: Any = _sheets(path) if kind == "sheet" else _projects(path, left_out)

    def parse(line: agentboard.Line) -> BoardSheet | BoardTodo | None:
        if line.text("tool") != kind:
            return None
        return _board_sheet(line, start) if kind == "sheet" else _board_todo(line, start)

    published = agentboard.published_lines(LINES, parse, board)
    entries = tuple(entry for entry in published.entries if entry is not None)
    return Published(entries, identity([published.identity, repr(start)]), left_out | dict(published.left_out))


def match(rows: Sequence[Sequence[Value]], wanted: Sequence[Sequence[str]]) -> float:
    """The share of cells that are as wanted, of as many rows and columns as both have; 0 where there are none."""
    height, width = min(len(rows), len(wanted)), min(len(rows[0]) if rows else 0, len(wanted[0]) if wanted else 0)
    same = sum(_same_cell(rows[row][column], wanted[row][column]) for row in range(height) for column in range(width))
    return same / (height * width) if height * width else 0.0


def grid(sheet: SheetState) -> list[list[Value]]:
    """The values of a sheet, row by row, those of merged cells in each of them; an empty cell is an empty text."""
    _, _, cells, merged = sheet
    values = {coordinate_to_tuple(position): value for position, value, _ in cells if value is not None}
    for merged_range in merged:
        left, top, right, bottom = range_boundaries(merged_range)
        first = values.get((top, left), "")
        values |= {(row, column): first for row in range(top, bottom + 1) for column in range(left, right + 1)}
    rows = max((row for row, _ in values), default=0)
    columns = max((column for _, column in values), default=0)
    return [[values.get((row, column), "") for column in range(1, columns + 1)] for row in range(1, rows + 1)]


def says(said: Any, recorded: Any, name: str) -> bool:
    """Whether what a call said is what was recorded: of two objects all that ours says but ids and wording, lists in
    any order.
    """
    if isinstance(said, list) and isinstance(recorded, list) and any(isinstance(entry, dict) for entry in recorded):
        left = list(recorded)
        for item in said:
            counterpart = next((other for other in left if says(item, other, name)), None)
            if counterpart is None:
                return False
            left.remove(counterpart)
        return not left
    if isinstance(said, dict) and isinstance(recorded, dict):
        ours = {key: value for key, value in said.items() if key not in ("id", "message")}
        if "message" in recorded and not set(_DEED.findall(str(recorded["message"]).lower())) & {*name.split("_")}:
            return False
        return bool(ours) and all(key in recorded and says(value, recorded[key], name) for key, value in ours.items())
    if isinstance(said, dict) or isinstance(recorded, dict) or said is None or recorded is None:
        return False
    if isinstance(said, bool) or isinstance(recorded, bool):
        return said is recorded
    # "60(minute)" is what AgentBoard writes for a duration.
    if isinstance(said, int) and isinstance(recorded, str) and (number := _NUMBER.match(recorded)):
        recorded = float(number[0]) if not recorded[number.end() :].strip() or "(" in recorded else recorded
    with suppress(TypeError):
        return same_answer(said, recorded)
    return False


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _same_cell(ours: Value, wanted: str) -> bool:
    given = "" if ours is None else str(ours).strip()
    wanted = wanted.strip()
    if given == wanted:
        return True
    one, other = _number(given), _number(wanted)
    return one is not None and other is not None and same_number(one, other)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text[:-1]) / 100 if text.endswith("%") else float(text.replace(",", ""))
    return None


@lru_cache(maxsize=1)
def _sheets(path: Path) -> dict[str, SheetState | str]:
    """The sheets of a workbook by title, or why one cannot be used."""
    try:
        book = load_workbook(path, data_only=True)
    except Exception as error:
        # Openpyxl raises whatever its parsers do.
        raise UserError(f"AGENTBOARD_TOOLS: {path} is no workbook that can be read ({error!r})") from None
    return {sheet.title: _read_sheet(sheet) for sheet in book.worksheets}


def _read_sheet(sheet: Worksheet) -> SheetState | str:
    try:
        return _sheet_state(sheet)
    except Exception as error:
        return f"its sheet cannot be read ({error!r})"


def _sheet_state(sheet: Worksheet) -> SheetState | str:
    rows, columns = workbook.size(sheet)
    if rows > ROWS or columns > COLUMNS:
        return f"its sheet has {rows} rows and {columns} columns: at most {ROWS} and {COLUMNS} can be worked on"
    cells = tuple((cell.coordinate, _value(cell.value), workbook.note_of(cell)) for cell in workbook.filled(sheet))
    panes = (min(pane, limit) for pane, limit in zip(workbook.frozen(sheet), (rows, columns), strict=True))
    frozen_rows, frozen_columns = panes
    return sheet.title, (frozen_rows, frozen_columns), cells, workbook.merged_ranges(sheet)


def _value(value: Any) -> Value:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime | date):
        return value.isoformat()[:10]
    if value is None or isinstance(value, int | float):
        return value
    try:
        return workbook.normal(str(value))
    except ToolError:
        return str(value).lstrip("=")


def _board_sheet(line: agentboard.Line, sheets: dict[str, SheetState | str]) -> BoardSheet:
    title = next((title for title in sheets if f'"{title}"' in line.goal), None)
    if title is None:
        raise ValueError("its goal names no sheet of the workbook")
    sheet = sheets[title]
    if isinstance(sheet, str):
        raise ValueError(sheet)
    answer = line.info.get("answer")
    with suppress(ValueError, RecursionError):
        answer = json.loads(answer) if isinstance(answer, str) else answer
    if not isinstance(answer, list) or not answer or not all(isinstance(row, list) for row in answer):
        raise ValueError("its answer is no sheet, row by row")
    width = max(map(len, answer))
    wanted = tuple(tuple(map(str, [*row, *[""] * (width - len(row))])) for row in answer)
    if not width:
        raise ValueError("its answer is an empty sheet")
    calls: tuple[str, ...] = ()
    with suppress(ValueError):
        calls = reference_calls(line, Sheet)
    return BoardSheet(line.goal, sheet, wanted, calls)


def _projects(path: Path, left_out: dict[str, str]) -> tuple[tuple[tuple[Any, ...], ...], tuple[tuple[Any, ...], ...]]:
    """The rows of the tables `project` and `task`; what cannot be used is told in `left_out`."""
    try:
        given = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"AGENTBOARD_TOOLS: {path} is no JSON ({error})") from None
    projects: list[tuple[Any, ...]] = []
    tasks: list[tuple[Any, ...]] = []
    for number, project in enumerate(given if isinstance(given, list) else ()):
        try:
            key, name, rows = _FIRST_ID + number, _text(project["name"]), list(project["tasks"])
        except (KeyError, TypeError):
            left_out[f"{PROJECTS}: project {number}"] = "has no name or no tasks"
            continue
        projects.append((key, name, int(project.get("is_favorite") is True)))
        for task in rows:
            task_id = 2 * _FIRST_ID + len(tasks)
            try:
                facts = _text(task["content"]), _text(task["description"]), _text(task["due_date"])
                tasks.append((task_id, key, *facts, _count(task["duration"]), _count(task["priority"]), 0))
            except (KeyError, TypeError, ValueError):
                left_out[f"{PROJECTS}: a task of {name}"] = "has no content, description, due_date, duration, priority"
    if not tasks:
        raise UserError(f"AGENTBOARD_TOOLS: {path} holds no project with a task")
    return tuple(projects), tuple(tasks)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    value.encode()
    return value


def _count(value: Any) -> int:
    number = int(value)
    if not 0 <= number < _FIRST_ID:
        raise ValueError("no number of minutes, and no priority")
    return number


def _board_todo(line: agentboard.Line, start: tuple[Any, Any]) -> BoardTodo:
    init = line.info.get("init_config")
    known = init if isinstance(init, dict) else {}
    today, place = known.get("current_date"), known.get("current_location")
    if not isinstance(today, str) or not isinstance(place, str):
        raise ValueError("its init_config has no current_date or no current_location")
    if not line.subgoals:
        raise ValueError("it has no subgoals")
    left = None
    if line.info.get("goal_type") == 1:
        left = _wanted(line.info.get("answer"))
    state: State = (((today, place),), *start)
    return BoardTodo(line.goal, state, line.subgoals, left)


def _wanted(answer: Any) -> tuple[Any, ...]:
    """How projects and open tasks are to be left. Raises ValueError for an answer that does not say it."""
    try:
        projects = sorted((_text(project["name"]), int(project["is_favorite"])) for project in answer["projects"])
        tasks = sorted((_text(task["content"]), _text(task["due_date"])) for task in answer["tasks"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("its answer does not say how projects and tasks are left") from None
    return tuple(projects), tuple(tasks)


def _left(state: State) -> tuple[Any, ...]:
    _, projects, tasks = state
    still_open = [row for row in tasks if not row[7]]
    return tuple(sorted((row[1], row[2]) for row in projects)), tuple(sorted((row[2], row[4]) for row in still_open))

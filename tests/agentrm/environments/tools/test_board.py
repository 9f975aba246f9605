"""AgentBoard's ToolOperation on files of our own in its form: no line, workbook or list of its is here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

openpyxl = pytest.importorskip("openpyxl")

from openpyxl.comments import Comment  # noqa: E402

from agentrm.config.schema import TaskSet  # noqa: E402
from agentrm.config.tasks import chosen_kinds  # noqa: E402
from agentrm.core.errors import UserError  # noqa: E402
from agentrm.environments.base import Environment  # noqa: E402
from agentrm.environments.registry import make  # noqa: E402
from agentrm.environments.tools.board import PROJECTS, WORKBOOK, match, says  # noqa: E402

PROJECT = {
    "name": "Garden",
    "is_favorite": False,
    "tasks": [
        {"content": content, "description": "- Place: Shed", "due_date": day, "duration": minutes,
         "duration_unit": "minute", "priority": 2}
        for content, day, minutes in (("Cut the hedge", "2020-05-04", 60), ("Mend the fence", "2020-05-09", 30))
    ],
}  # fmt: skip
INIT = {"current_date": "2020-05-03", "current_location": "Leiden"}
SHEET = [["Item", "Price", "Left"], ["pens", 1.5, 4], ["ink", 0.25, 9]]
WANTED = json.dumps([["Item", "Price", "Left"], ["ink", "0.25", "9.00"], ["pens", "1.50", "3.00"]])


def line(number: int, goal: str, subgoals: Any, **info: Any) -> dict[str, Any]:
    return {"task": "tool-operation", "id": number, "goal": goal, "subgoals": subgoals, "additional_info": info,
            "difficulty": "hard"}  # fmt: skip


def sheet_line(number: int = 0, **info: Any) -> dict[str, Any]:
    calls = (
        "Reference Action Path: \nAction 1: update_cell with Action Input: {'position': 'C2', 'value': '3'}\n"
        "Action 2: sort_sheet_by_col with Action Input: {'col_num': '2', 'order': 'asc'}\n"
    )
    given = {"answer": WANTED, "init_config": None, "goal_type": 1, "tool": "sheet"}
    return line(number, 'One pen was sold: update "Sheet1" and sort it by "Price".', calls, **given | info)


def todo_line(number: int = 1, **info: Any) -> dict[str, Any]:
    project = {"order": 1, "color": "charcoal", "name": "Garden", "is_favorite": False}
    hedge, fence = (
        {"order": order, "content": each["content"], "is_completed": False, "priority": 2, "due_date": each["due_date"]}
        for order, each in enumerate(PROJECT["tasks"], start=1)
    )
    duration = {"content": "Cut the hedge", "duration": "60(minute)"}
    done = {"message": "Complete task successfully.", "task": hedge}
    given = {"answer": {"projects": [project], "tasks": [fence]}, "init_config": INIT, "goal_type": 1, "tool": "todo"}
    return line(number, "Complete what takes longest.", [[project], [hedge, fence], duration, done], **given | info)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders as AgentBoard's data set and its code's utils, named by their variables."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Sheet1"
    for row in SHEET:
        sheet.append(row)
    sheet["A2"].comment = Comment("blue ones", "us")
    sheet.freeze_panes = "A2"
    large = book.create_sheet("Sheet2")
    large["A200"] = 1
    tools = tmp_path / "utils"
    (tools / WORKBOOK).parent.mkdir(parents=True)
    book.save(tools / WORKBOOK)
    (tools / PROJECTS).parent.mkdir()
    (tools / PROJECTS).write_text(json.dumps([PROJECT, {"name": "odd"}, {"name": "empty", "tasks": [{}]}]))
    monkeypatch.setenv("AGENTBOARD_TOOLS", str(tools))
    return tmp_path


def write(board: Path, monkeypatch: pytest.MonkeyPatch, *lines: Any) -> None:
    path = board / "data" / "tool-operation" / "test.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines))
    monkeypatch.setenv("AGENTBOARD_DATA", str(board))


@pytest.fixture
def environment() -> Iterator[Environment]:
    found = make("tooloperation")
    yield found
    found.close()


def act(environment: Environment, tool: str, **arguments: Any) -> Any:
    said = environment.step(f"{tool} with Action Input: {json.dumps(arguments)}").text
    return json.loads(said) if said[0] in "[{" else said


def test_a_workbook_is_worked_on(board: Path, monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    write(board, monkeypatch, todo_line(), sheet_line())
    assert environment.size("sheet", "test") == environment.size("todo", "test") == 1
    task = environment.task("sheet", "test", 0)
    assert environment.reset(task).text.endswith(f"You are now in Sheet1.\n{json.dumps(SHEET)}")
    assert environment.grade().progress == 0
    assert act(environment, "get_note", position="A2") == "blue ones"
    # The cells that are right at the start count from the first call on.
    assert environment.grade().progress == pytest.approx(3 / 9)
    act(environment, "sort_sheet_by_col", col_num=2, order="asc")
    assert environment.grade().progress == pytest.approx(8 / 9)
    state = environment.snapshot()
    act(environment, "update_cell", position="C3", value=3)
    assert (environment.grade().progress, environment.grade().success) == (1, False)
    act(environment, "update_cell", position="C3", value=5)
    assert environment.step("finish with Action Input: {}").done
    assert environment.grade().success
    environment.restore(state)
    assert environment.grade().progress == pytest.approx(8 / 9)
    environment.step("finish with Action Input: {}")
    assert not environment.grade().success
    # The reference's calls, written in Python, are the oracle's.
    actions = environment.expert_actions()
    assert [environment.step(each).done for each in actions] == [False, False, True]
    assert environment.grade().success


def test_a_list_is_worked_on(board: Path, monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    answered = line(2, "How long?", [60], answer=None, init_config=INIT, goal_type=0, tool="todo")
    write(board, monkeypatch, todo_line(), answered)
    environment.reset(environment.task("todo", "test", 0))
    assert environment.expert_actions() == []
    assert act(environment, "get_user_current_date") == INIT["current_date"]
    (project,) = act(environment, "get_projects")[:1]
    hedge, fence = act(environment, "get_tasks", project_id=project["id"])
    assert environment.grade().progress == pytest.approx(1 / 4)
    act(environment, "get_task_duration", task_id=fence["id"])
    act(environment, "update_task", task_id=hedge["id"], due_date="2020-05-04")
    assert environment.grade().progress == pytest.approx(1 / 4)
    act(environment, "get_task_duration", task_id=hedge["id"])
    act(environment, "complete_task", task_id=hedge["id"])
    assert environment.grade().progress == pytest.approx(3 / 4)
    environment.reset(environment.task("todo", "test", 1))
    assert environment.step('finish with Action Input: {"answer": "60"}').done
    assert environment.grade().success


def test_the_list_must_be_left_as_asked(board: Path, monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    (board / "utils" / PROJECTS).write_text(json.dumps([PROJECT]))
    write(board, monkeypatch, todo_line())
    for spoil in (False, True):
        environment.reset(environment.task("todo", "test", 0))
        (project,) = act(environment, "get_projects")
        hedge, fence = act(environment, "get_tasks", project_id=project["id"])
        act(environment, "get_task_duration", task_id=hedge["id"])
        act(environment, "complete_task", task_id=hedge["id"])
        if spoil:
            act(environment, "delete_task", task_id=fence["id"])
        environment.step("finish with Action Input: {}")
        assert (environment.grade().progress, environment.grade().success) == (1, not spoil)


def test_recorded_results_stand_for_the_world(
    board: Path, monkeypatch: pytest.MonkeyPatch, environment: Environment
) -> None:
    monkeypatch.delenv("AGENTBOARD_TOOLS")
    path = [
        {"Action": "get_tasks", "Action Input": "{'project_id': '2203306141'}"},
        "Action: complete_task with Action Input: {'task_id': '7'}",
        {"Action": "get_tasks", "Action Input": {"project_id": "2203306141"}},
    ]
    results = [[{"content": "Cut"}, {"content": "Mend"}], {"message": "done"}, [{"content": "Mend"}]]
    write(board, monkeypatch, todo_line(1, action_path=path) | {"subgoals": results},
          todo_line(2, action_path=path) | {"subgoals": [*results, "Mend"]}, todo_line(3), sheet_line(4))  # fmt: skip
    assert environment.size("todo_recorded", "test") == 2
    assert environment.size("sheet_recorded", "test") == 0
    assert chosen_kinds(TaskSet("tooloperation", split="test", count=1)) == ("sheet", "todo")
    assert environment.data("todo", "test") == ""
    environment.reset(environment.task("todo_recorded", "test", 0))
    assert act(environment, "get_tasks", project_id=1).startswith("ERROR | get_tasks: there is no recorded answer")
    said = []
    for action in environment.expert_actions():
        state = environment.snapshot()
        environment.step(action)
        environment.restore(state)
        said.append(environment.step(action).text)
    assert said[:3] == [json.dumps(each) for each in results]
    assert environment.grade().success
    environment.reset(environment.task("todo_recorded", "test", 1))
    for action in environment.expert_actions()[:-1]:
        environment.step(action)
    assert environment.grade().progress == pytest.approx(3 / 4)
    assert environment.step('finish with Action Input: {"answer": "mend"}').done
    assert environment.grade().success


def test_what_cannot_be_used_is_left_out_and_told_once(
    board: Path, monkeypatch: pytest.MonkeyPatch, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [
        "{",
        json.dumps(todo_line(8)).replace("takes", "\\ud800"),
        line(9, "x", {}, tool="todo"),
        line(10, "x", [1]),
        sheet_line(11, answer="[]"),
        sheet_line(12, answer=3),
        sheet_line(13) | {"goal": 'Sort "Sheet2".'},
        sheet_line(14) | {"goal": "Sort it."},
        todo_line(15, init_config=None),
        todo_line(16, answer=None),
        todo_line(17) | {"subgoals": None},
    ]
    write(board, monkeypatch, sheet_line(), todo_line(), *odd)
    sizes = [environment.size(kind, "test") for kind in ("sheet", "todo", "sheet_recorded", "todo_recorded")]
    assert sizes[:2] == [1, 1]
    reasons = environment.published("todo", "test").left_out | environment.published("sheet", "test").left_out
    assert len(reasons) == len(odd) + 2
    assert reasons["tool-operation/test.jsonl:4"] == "half a character, which is no text"
    assert reasons["tool-operation/test.jsonl:9"] == (
        "its sheet has 200 rows and 1 columns: at most 100 and 26 can be worked on"
    )
    assert caplog.text.count("tool-operation/test.jsonl:3") == 1
    for number in (0, 1):
        environment.reset(environment.task(("sheet", "todo")[number], "test", 0))
        assert environment.admissible_actions()


def test_what_is_absent_is_named(board: Path, monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    monkeypatch.delenv("AGENTBOARD_DATA", raising=False)
    with pytest.raises(UserError, match="needs AgentBoard's tests beside it: get AgentBoard's data"):
        environment.size("todo", "test")
    write(board, monkeypatch, todo_line())
    (board / "utils" / PROJECTS).write_text("[")
    with pytest.raises(UserError, match=r"projects.json is no JSON"):
        environment.size("todo", "test")
    (board / "utils" / WORKBOOK).write_bytes(b"PK")
    with pytest.raises(UserError, match="is no workbook that can be read"):
        environment.size("sheet", "test")
    (board / "utils" / WORKBOOK).unlink()
    with pytest.raises(UserError, match=r"holds no sheet/Test Sheet-For Copy.xlsx: name AgentBoard's agentboard/utils"):
        environment.size("sheet", "test")


def test_cells_and_results_that_say_the_same() -> None:
    assert match([["a", 0.2], ["b", 1200]], [["a", "20.00%"], ["b", "1,200.00"], ["c", ""]]) == 1
    assert match([["a", None]], [["a", ""], ["b", "x"]]) == 1
    assert match([], [["a"]]) == match([["a"]], [["b"]]) == 0
    assert says([{"id": 1, "a": 2}], [{"id": "9", "a": 2, "b": 3}], "get_tasks")
    assert not says([{"a": 2}, {"a": 2}], [{"a": 2}], "get_tasks")
    assert not says({"message": "x", "task": {"a": 1}}, {"message": "Delete it", "task": {"a": 1}}, "complete_task")
    assert says(["B", "a"], ["a", "b"], "finish")
    assert not says(None, 1, "finish")
    assert not says([{}], [[1]], "finish")

"""ToolOperation: work on a workbook and on a to-do list with tools, in the manner of AgentBoard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments import agentboard
from agentrm.environments.base import Turn
from agentrm.environments.official import OfficialData, Published
from agentrm.environments.support import derive_seed, digest, engine_import, split_of
from agentrm.environments.tools.environment import ToolEnvironment, first_text
from agentrm.environments.tools.operation import Facts, Marks, OperationEpisode, OperationToolkit, distance
from agentrm.environments.tools.recorded import SUFFIX
from agentrm.environments.tools.reference import Answer, Reference, Unfit, same_answer
from agentrm.environments.tools.todo import Todo, draw_todo
from agentrm.environments.tools.todo_tasks import TEMPLATES as TODO_TEMPLATES
from agentrm.environments.tools.toolkit import Toolkit, write_action

KINDS = ("sheet", "todo")
DRAWS_KEPT = 256
BOARD_VARIABLE = "AGENTBOARD_TOOLS"
SOURCE = "AgentBoard's code (github.com/hkust-nlp/AgentBoard: agentboard/utils)"


@dataclass(frozen=True, slots=True)
class Operation:
    """What is to be done to a world: `state` is its first state, `facts` those of the last one, `changes` how many
    of them have to change; `answer` is None when none is asked for.
    """

    toolkit: type[OperationToolkit]
    state: Any
    facts: Facts
    changes: int
    goal: str
    answer: Answer | None
    actions: tuple[str, ...]
    opening: str = ""

    def kit(self, world: Any = None) -> OperationToolkit:
        return self.toolkit.of(self.state if world is None else world)

    def note(self, marks: Marks, kit: OperationToolkit, name: str, arguments: dict[str, Any], text: str) -> Marks:
        if name != "finish":
            return replace(marks, reached=max(marks.reached, self.changes - distance(kit.facts(), self.facts)))
        given = arguments.get("answer")
        right = given is not None and self.answer is not None and same_answer(given, self.answer)
        return replace(marks, finished=True, right=right)

    def over(self, marks: Marks) -> bool:
        return marks.finished or self._share(marks) == 1

    def grade(self, marks: Marks) -> Grade:
        share = self._share(marks)
        return Grade(outcome=share, progress=share, success=share == 1)

    def _share(self, marks: Marks) -> float:
        return float((marks.reached + marks.right) / (self.changes + (self.answer is not None)))


def _published(folder: Path, kind: str, split: str) -> Published:
    with engine_import("ToolOperation", "tooloperation"):
        from agentrm.environments.tools.board import published_operations, recorded_operations
    if kind.endswith(SUFFIX):
        return recorded_operations(folder, kind.removesuffix(SUFFIX))
    return published_operations(folder, kind)


class ToolOperation(ToolEnvironment[OperationEpisode, OperationToolkit]):
    """Edits of a workbook (sheet) and of a to-do list (todo); every task has a world of its own, drawn by seed.

    A task belongs to the split that its wording hashes to, so that no two splits ask the same. Outcome and progress
    are the share of the things asked for (cells, notes, merged ranges and sheets; tasks and projects) that have come
    from their first into their last state, the best so far; an answer, where one is asked for, counts as one more.
    The episode is solved as soon as all are reached, and lost by `finish` before that.

    The tests are AgentBoard's where AGENTBOARD_TOOLS names the `agentboard/utils` of its code and AGENTBOARD_DATA its
    data: its workbook and its projects, worked on with our tools, and its metric (see `board`). Beside them
    `sheet_recorded` and `todo_recorded` need its data alone: a call gets the answer that was recorded of the reference
    call, and any other is refused. A set of tasks has to name them: they take no other way than the reference's.
    """

    name: ClassVar[str] = "tooloperation"
    engine: ClassVar[str] = "own, on openpyxl 3.1.5 and SQLite"
    licence: ClassVar[str] = "Apache-2.0 (openpyxl: MIT)"
    kinds: ClassVar[tuple[str, ...]] = KINDS
    published_kinds: ClassVar[tuple[str, ...]] = tuple(f"{kind}{SUFFIX}" for kind in KINDS)
    official: ClassVar[tuple[OfficialData, ...]] = (
        agentboard.official_tests(_published, lambda kind: kind.endswith(SUFFIX)),
        OfficialData(
            BOARD_VARIABLE,
            lambda kind, split: split == "test" and kind in KINDS,
            _published,
            SOURCE,
            (agentboard.DATA_VARIABLE,),
        ),
    )
    instruction: ClassVar[str] = (
        "You edit a workbook or a to-do list with tools, until it is as the goal asks and nothing else has changed. "
        f"{ToolEnvironment.action_form} Dates are written YYYY-MM-DD, cells "
        "like B2; rows and columns count from 1. In a workbook open the sheet first, and freeze its header before you "
        "sort. The task ends when all is done; if the goal asks a question, hand in the answer with finish at the end."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            first_text(
                Todo, "Complete the task in Summer Bazaar with the highest priority. How many minutes did it take?"
            ),
            "I need the id of the project Summer Bazaar.",
            "get_projects with Action Input: {}",
        ),
        Turn(
            '[{"id": 1126604932, "name": "Summer Move", "is_favorite": true}, {"id": 3979371966, "name": "Winter '
            'Course", "is_favorite": true}, {"id": 7082979259, "name": "Summer Bazaar", "is_favorite": true}, '
            '{"id": 8426473560, "name": "Spring Move", "is_favorite": false}]',
            "Its id is 7082979259, so I can list its tasks.",
            'get_tasks with Action Input: {"project_id": 7082979259}',
        ),
        Turn(
            '[{"id": 1469714657, "content": "Paint the tickets", "priority": 4, "due_date": "2021-07-30"}, '
            '{"id": 6915030477, "content": "Repair the lamps", "priority": 3, "due_date": "2021-07-29"}, '
            '{"id": 9278237347, "content": "Sort the chairs", "priority": 1, "due_date": "2021-07-25"}]',
            "Priority 4 is the highest, so it is the task 1469714657. The goal also asks for its duration.",
            'get_task_duration with Action Input: {"task_id": 1469714657}',
        ),
        Turn(
            '{"id": 1469714657, "content": "Paint the tickets", "duration": 60}',
            "It takes 60 minutes. Now I complete it.",
            'complete_task with Action Input: {"task_id": 1469714657}',
        ),
        Turn(
            '{"message": "The task is completed.", "task": {"id": 1469714657, "content": "Paint the tickets", '
            '"priority": 4, "due_date": "2021-07-30"}}',
            "All is done, and I hand in the answer.",
            'finish with Action Input: {"answer": 60}',
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        with engine_import("ToolOperation", "tooloperation"):
            import openpyxl  # noqa: F401
        self._marks = Marks()

    @classmethod
    def toolkit(cls, kind: str) -> type[Toolkit]:
        if kind.removesuffix(SUFFIX) == "todo":
            return Todo
        with engine_import("ToolOperation", "tooloperation"):
            from agentrm.environments.tools.sheet import Sheet
        return Sheet

    @classmethod
    def usual_kinds(cls, split: str) -> tuple[str, ...]:
        return cls.kinds

    def reset(self, task: Task) -> Observation:
        first = super().reset(task)
        return Observation(f"{first.text}{self._drawn.opening}")

    def grade(self) -> Grade:
        return self._drawn.grade(self._marks)

    def fingerprint(self) -> str:
        return digest(self._task, self._toolkit.save(), self._marks)

    def snapshot(self) -> Any:
        return self._task, self._drawn, self._toolkit.save(), self._marks

    def restore(self, state: Any) -> None:
        self._task, self._episode, world, self._marks = state
        self._put_up(self._drawn.kit(world))

    def close(self) -> None:
        if self._kit is not None:
            self._kit.close()

    def _draw(self, task: Task) -> OperationEpisode:
        entry: OperationEpisode | None = self.entry(task)
        return entry or draw_operation(task)

    def _begin(self, episode: OperationEpisode) -> None:
        self._put_up(episode.kit())
        self._marks = Marks()

    def _put_up(self, kit: OperationToolkit) -> None:
        self.close()
        self._kit = kit

    def _note(self, name: str, arguments: dict[str, Any], text: str) -> bool:
        self._marks = self._drawn.note(self._marks, self._toolkit, name, arguments, text)
        return self._drawn.over(self._marks)


@lru_cache(maxsize=DRAWS_KEPT)
def draw_operation(task: Task) -> Operation:
    """The operation of a task: the first draw whose wording belongs to the task's split."""
    draw = _draw_sheet if task.kind == "sheet" else _draw_todo
    for number in count():
        random = Random(derive_seed(task.seed, task.environment, task.kind, task.split, task.index, number))
        try:
            operation = draw(random)
        except Unfit:
            continue
        if split_of(operation.goal) == task.split:
            return operation
    raise AssertionError("draws never end")


def _draw_sheet(random: Random) -> Operation:
    from agentrm.environments.tools.sheet_tasks import draw_task
    from agentrm.environments.tools.sheet_world import draw_workbook

    world = draw_workbook(random)
    state, before = world.sheet.save(), world.sheet.facts()
    call = Reference(world.sheet)
    goal = draw_task(call, random, world)
    return _write_operation(call, world.sheet, state, before, goal, None)


def _draw_todo(random: Random) -> Operation:
    todo = draw_todo(random)
    state, before = todo.save(), todo.facts()
    call = Reference(todo)
    goal, answer = random.choice(TODO_TEMPLATES)(call, random)
    return _write_operation(call, todo, state, before, goal, answer)


def _write_operation(
    call: Reference, kit: OperationToolkit, state: Any, before: Facts, goal: str, answer: Answer | None
) -> Operation:
    after = kit.facts()
    kit.close()
    changes = distance(before, after)
    if not changes and answer is None:
        raise Unfit
    actions = [*call.actions, *([] if answer is None else [write_action("finish", {"answer": answer})])]
    return Operation(type(kit), state, after, changes, goal, answer, tuple(actions))

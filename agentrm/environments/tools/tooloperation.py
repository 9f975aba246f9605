"""ToolOperation: work on a workbook and on a to-do list with tools, in the manner of AgentBoard."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from random import Random
from typing import Any, ClassVar

from agentrm.core.task import Grade, Task
from agentrm.environments.base import Turn
from agentrm.environments.support import derive_seed, digest, engine_import, split_of
from agentrm.environments.tools.environment import ToolEnvironment, first_text
from agentrm.environments.tools.operation import Facts, OperationToolkit, distance
from agentrm.environments.tools.reference import Answer, Reference, Unfit, same_answer
from agentrm.environments.tools.todo import Todo, draw_todo
from agentrm.environments.tools.todo_tasks import TEMPLATES as TODO_TEMPLATES
from agentrm.environments.tools.toolkit import Toolkit, write_action

DRAWS_KEPT = 256


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


class ToolOperation(ToolEnvironment[Operation, OperationToolkit]):
    """Edits of a workbook (sheet) and of a to-do list (todo); every task has a world of its own, drawn by seed.

    A task belongs to the split that its wording hashes to, so that no two splits ask the same. Outcome and progress
    are the share of the things asked for (cells, notes, merged ranges and sheets; tasks and projects) that have come
    from their first into their last state, the best so far; an answer, where one is asked for, counts as one more.
    The episode is solved as soon as all are reached, and lost by `finish` before that.
    """

    name: ClassVar[str] = "tooloperation"
    engine: ClassVar[str] = "own, on openpyxl 3.1.5 and SQLite"
    licence: ClassVar[str] = "Apache-2.0 (openpyxl: MIT)"
    kinds: ClassVar[tuple[str, ...]] = ("sheet", "todo")
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
        self._reached = 0
        self._answered = False
        self._right = False

    @classmethod
    def toolkit(cls, kind: str) -> type[Toolkit]:
        if kind == "todo":
            return Todo
        with engine_import("ToolOperation", "tooloperation"):
            from agentrm.environments.tools.sheet import Sheet
        return Sheet

    def grade(self) -> Grade:
        share = self._share()
        return Grade(outcome=share, progress=share, success=share == 1)

    def fingerprint(self) -> str:
        return digest(self._task, self._toolkit.save(), self._reached, self._answered, self._right)

    def snapshot(self) -> Any:
        return self._task, self._drawn, self._toolkit.save(), (self._reached, self._answered, self._right)

    def restore(self, state: Any) -> None:
        self._task, self._episode, world, (self._reached, self._answered, self._right) = state
        self._put_up(self._drawn.toolkit.of(world))

    def close(self) -> None:
        if self._kit is not None:
            self._kit.close()

    def _draw(self, task: Task) -> Operation:
        return draw_operation(task)

    def _begin(self, episode: Operation) -> None:
        self._put_up(episode.toolkit.of(episode.state))
        self._reached, self._answered, self._right = 0, False, False

    def _put_up(self, kit: OperationToolkit) -> None:
        self.close()
        self._kit = kit

    def _note(self, name: str, arguments: dict[str, Any], text: str) -> bool:
        episode = self._drawn
        if name == "finish":
            self._answered = True
            given, expected = arguments.get("answer"), episode.answer
            self._right = given is not None and expected is not None and same_answer(given, expected)
        else:
            left = distance(self._toolkit.facts(), episode.facts)
            self._reached = max(self._reached, episode.changes - left)
        return self._answered or self._share() == 1

    def _share(self) -> float:
        parts = self._drawn.changes + (self._drawn.answer is not None)
        return (self._reached + self._right) / parts


@lru_cache(maxsize=DRAWS_KEPT)
def draw_operation(task: Task) -> Operation:
    """The operation of a task: the first draw whose wording belongs to the task's split."""
    draw = _draw_sheet if task.kind == "sheet" else _draw_todo
    for number in count():
        random = Random(derive_seed(task.seed, task.environment, task.kind, task.split, task.index, number))
        try:
            found = draw(random)
        except Unfit:
            continue
        if split_of(found.goal) == task.split:
            return found
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

from datetime import date

import pytest

from agentrm.environments.tools.todo import Todo
from agentrm.environments.tools.toolkit import ToolError

STATE = (
    (("2022-05-10", "Belham"),),
    ((1, "Spring Trip", 0), (2, "Office Party", 1)),
    (
        (11, 1, "Pack the maps", "Where: Belham. With: Ada Voss.", "2022-05-10", 30, 4, 0),
        (12, 1, "Sort the lamps", "Where: Corvik. With: Bo Ray.", "2022-05-12", 45, 1, 0),
        (13, 2, "Order the chairs", "Where: Belham. With: Bo Ray.", "2022-05-09", 20, 2, 1),
    ),
)
MAPS = {"id": 11, "content": "Pack the maps", "priority": 4, "due_date": "2022-05-10"}
LAMPS = {"id": 12, "content": "Sort the lamps", "priority": 1, "due_date": "2022-05-12"}


@pytest.fixture
def todo():
    found = Todo.of(STATE)
    yield found
    found.close()


def test_reading(todo) -> None:
    assert (todo.get_user_current_date(), todo.get_user_current_location()) == ("2022-05-10", "Belham")
    assert todo.get_projects() == [
        {"id": 1, "name": "Spring Trip", "is_favorite": False},
        {"id": 2, "name": "Office Party", "is_favorite": True},
    ]
    assert todo.get_tasks(1) == [MAPS, LAMPS]
    assert todo.get_tasks(2) == []
    assert todo.get_task_duration(12) == {"id": 12, "content": "Sort the lamps", "duration": 45}
    assert todo.get_task_description(11)["description"] == "Where: Belham. With: Ada Voss."
    assert todo.save() == STATE


def test_writing_changes_one_fact_each(todo) -> None:
    facts = todo.facts()
    assert facts[("task", 11)] == ("2022-05-10", 0)
    assert todo.complete_task(11) == {"message": "The task is completed.", "task": MAPS}
    assert todo.update_task(12, date(2022, 6, 1))["task"] == LAMPS | {"due_date": "2022-06-01"}
    assert todo.update_project(1, True)["project"]["is_favorite"] is True
    changed = {key for key, value in todo.facts().items() if facts[key] != value}
    assert changed == {("task", 11), ("task", 12), ("project", 1)}
    todo.delete_task(12)
    assert ("task", 12) not in todo.facts()
    assert todo.get_tasks(1) == []


def test_a_completed_task_can_be_read_but_not_changed(todo) -> None:
    assert todo.get_task_duration(13)["duration"] == 20
    for change in (todo.complete_task, todo.delete_task, lambda key: todo.update_task(key, date(2022, 6, 1))):
        with pytest.raises(ToolError, match="there is no open task with the id 13"):
            change(13)


def test_unknown_ids_are_refused(todo) -> None:
    with pytest.raises(ToolError, match="there is no project with the id 9"):
        todo.get_tasks(9)
    with pytest.raises(ToolError, match="there is no task with the id 9"):
        todo.get_task_description(9)

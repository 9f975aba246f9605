"""A to-do list: projects with tasks in an embedded database."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import Annotated, Any

from pydantic import Field

from agentrm.environments.tools import names
from agentrm.environments.tools.database import Database
from agentrm.environments.tools.operation import Facts, OperationToolkit
from agentrm.environments.tools.toolkit import ToolError, tool

SCHEMA = """
CREATE TABLE user (today TEXT, location TEXT);
CREATE TABLE project (id INTEGER PRIMARY KEY, name TEXT, is_favorite INTEGER);
CREATE TABLE task (id INTEGER PRIMARY KEY, project INTEGER, content TEXT, description TEXT, due_date TEXT,
                   duration INTEGER, priority INTEGER, is_completed INTEGER);
"""
TABLES = ("user", "project", "task")
PROJECTS, MOST_TASKS = 4, 6
_OCCASIONS = ("Spring", "Summer", "Autumn", "Winter", "Weekend", "Family", "Office", "School", "Village", "Charity")
_EVENTS = ("Bazaar", "Concert", "Trip", "Move", "Party", "Repairs", "Training", "Exhibition", "Course", "Tournament")
_VERBS = ("Book", "Check", "Clean", "Collect", "Compare", "Order", "Pack", "Paint", "Print", "Repair", "Sort", "Sketch")
_THINGS = ("the chairs", "the tickets", "the lamps", "the posters", "the tools", "the recipes", "the maps", "the boxes")

Id = Annotated[int, Field(ge=1, le=2**40)]
Day = Annotated[date, Field(strict=True)]
State = tuple[tuple[tuple[Any, ...], ...], ...]
"""The rows of each table of TABLES."""


class Todo(OperationToolkit):
    """A completed task is no longer listed or changed, but its details can still be read; a deleted one is gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def of(cls, state: State) -> Todo:
        database = Database(SCHEMA)
        for table, rows in zip(TABLES, state, strict=True):
            database.insert(table, rows)
        return cls(database)

    def save(self) -> State:
        return tuple(
            tuple(tuple(row.values()) for row in self._database.rows(f"SELECT * FROM {table} ORDER BY rowid"))
            for table in TABLES
        )

    def facts(self) -> Facts:
        projects = self._database.rows("SELECT id, is_favorite FROM project")
        tasks = self._database.rows("SELECT id, due_date, is_completed FROM task")
        facts: Facts = {("project", project["id"]): project["is_favorite"] for project in projects}
        return facts | {("task", task["id"]): (task["due_date"], task["is_completed"]) for task in tasks}

    def close(self) -> None:
        self._database.close()

    @tool
    def get_user_current_date(self) -> str:
        """today's date"""
        return self._database.column("SELECT today FROM user")[0]

    @tool
    def get_user_current_location(self) -> str:
        """the place where the user is"""
        return self._database.column("SELECT location FROM user")[0]

    @tool
    def get_projects(self) -> list[dict[str, Any]]:
        """all projects: id, name, and whether each is a favorite"""
        return [self._project(key) for key in self._database.column("SELECT id FROM project ORDER BY id")]

    @tool
    def update_project(self, project_id: Id, is_favorite: bool) -> dict[str, Any]:
        """make a project a favorite, or no favorite any more"""
        self._project(project_id)
        self._database.execute("UPDATE project SET is_favorite = ? WHERE id = ?", is_favorite, project_id)
        return {"message": "The project is updated.", "project": self._project(project_id)}

    @tool
    def get_tasks(self, project_id: Id) -> list[dict[str, Any]]:
        """the open tasks of a project: id, content, priority (1 normal to 4 urgent) and due date"""
        self._project(project_id)
        query = "SELECT id FROM task WHERE project = ? AND NOT is_completed ORDER BY id"
        return [self._task(key) for key in self._database.column(query, project_id)]

    @tool
    def get_task_description(self, task_id: Id) -> dict[str, Any]:
        """where a task takes place and with whom"""
        return self._detail(task_id, "description")

    @tool
    def get_task_duration(self, task_id: Id) -> dict[str, Any]:
        """how many minutes a task takes"""
        return self._detail(task_id, "duration")

    @tool
    def complete_task(self, task_id: Id) -> dict[str, Any]:
        """mark a task as done"""
        task = self._task(task_id)
        self._database.execute("UPDATE task SET is_completed = 1 WHERE id = ?", task_id)
        return {"message": "The task is completed.", "task": task}

    @tool
    def update_task(self, task_id: Id, due_date: Day) -> dict[str, Any]:
        """change the due date of a task"""
        self._task(task_id)
        self._database.execute("UPDATE task SET due_date = ? WHERE id = ?", due_date.isoformat(), task_id)
        return {"message": "The task is updated.", "task": self._task(task_id)}

    @tool
    def delete_task(self, task_id: Id) -> dict[str, Any]:
        """delete a task"""
        task = self._task(task_id)
        self._database.execute("DELETE FROM task WHERE id = ?", task_id)
        return {"message": "The task is deleted.", "task": task}

    @tool
    def finish(self, answer: str | float | list[str | float] | None = None) -> str:
        """end the task, with an answer if one is asked for: a number, a text, or a list of them"""
        return "The task is ended."

    def values(self) -> dict[str, list[Any]]:
        tasks = self._database.column("SELECT id FROM task WHERE NOT is_completed ORDER BY id")
        projects = self._database.column("SELECT id FROM project ORDER BY id")
        return {
            "project_id": projects,
            "is_favorite": [True] * len(projects),
            "task_id": tasks,
            "due_date": [self.get_user_current_date()] * len(tasks),
        }

    def _project(self, key: int) -> dict[str, Any]:
        rows = self._database.rows("SELECT id, name, is_favorite FROM project WHERE id = ?", key)
        if not rows:
            raise ToolError(f"there is no project with the id {key}")
        return rows[0] | {"is_favorite": bool(rows[0]["is_favorite"])}

    def _task(self, key: int) -> dict[str, Any]:
        query = "SELECT id, content, priority, due_date FROM task WHERE id = ? AND NOT is_completed"
        rows = self._database.rows(query, key)
        if not rows:
            raise ToolError(f"there is no open task with the id {key}")
        return rows[0]

    def _detail(self, key: int, column: str) -> dict[str, Any]:
        """One column of a task, also of a completed one."""
        rows = self._database.rows(f"SELECT id, content, {column} FROM task WHERE id = ?", key)
        if not rows:
            raise ToolError(f"there is no task with the id {key}")
        return rows[0]


def draw_todo(random: Random) -> Todo:
    """A to-do list of a few projects, with tasks from four days ago to eight days ahead."""
    database = Database(SCHEMA)
    today = date(2021, 1, 1) + timedelta(days=random.randrange(1000))
    towns, friends = names.places(random, 3), names.people(random, 4)
    database.insert("user", [(today.isoformat(), random.choice(towns))])
    ids = random.sample(range(10**9, 10**10), PROJECTS * (1 + MOST_TASKS))
    projects, task_ids = ids[:PROJECTS], iter(ids[PROJECTS:])
    titles = names.titles(random, PROJECTS, _OCCASIONS, _EVENTS)
    database.insert("project", [(key, name, random.random() < 0.4) for key, name in zip(projects, titles, strict=True)])
    for project in projects:
        for content in names.titles(random, random.randint(3, MOST_TASKS), _VERBS, _THINGS):
            description = f"Where: {random.choice(towns)}. With: {random.choice(friends)}."
            due = today + timedelta(days=random.choice((0, 0, random.randint(-4, 8))))
            facts = due.isoformat(), random.randrange(10, 240, 5), random.randint(1, 4), 0
            database.insert("task", [(next(task_ids), project, content, description, *facts)])
    return Todo(database)

"""Tasks on a to-do list. Each template makes the calls that do it and returns the goal and the answer, if any."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Any

from agentrm.environments.tools.reference import Answer, Reference, Unfit, best, some

Operation = tuple[str, Answer | None]
Template = Callable[[Reference, Random], Operation]
Record = dict[str, Any]


def _project(call: Reference, random: Random) -> Record:
    return random.choice(call("get_projects"))


def _tasks(call: Reference, project: Record) -> list[Record]:
    return call("get_tasks", project_id=project["id"])


def _today(call: Reference) -> date:
    return date.fromisoformat(call("get_user_current_date"))


def _every(call: Reference, tool: str, tasks: list[Record], **arguments: Any) -> None:
    for task in some(tasks):
        call(tool, task_id=task["id"], **arguments)


def _favorite(call: Reference, random: Random) -> Operation:
    project = _project(call, random)
    call("update_project", project_id=project["id"], is_favorite=not project["is_favorite"])
    words = "is no favorite any more" if project["is_favorite"] else "becomes a favorite"
    return f"Change the project {project['name']} so that it {words}.", None


def _only_favorite(call: Reference, random: Random) -> Operation:
    projects = call("get_projects")
    chosen = random.choice(projects)
    for project in projects:
        if project["is_favorite"] != (project is chosen):
            call("update_project", project_id=project["id"], is_favorite=project is chosen)
    return f"See to it that {chosen['name']} is the only favorite project.", None


def _favorite_with_most_tasks(call: Reference, random: Random) -> Operation:
    projects = call("get_projects")
    word, least = random.choice((("most", False), ("fewest", True)))
    counts = {project["id"]: len(_tasks(call, project)) for project in projects}
    chosen = best(projects, lambda project: counts[project["id"]], least=least)
    if chosen["is_favorite"]:
        raise Unfit
    call("update_project", project_id=chosen["id"], is_favorite=True)
    listed = ", ".join(project["name"] for project in projects)
    return f"Of my projects {listed}: make the one with the {word} open tasks a favorite.", None


def _complete_due_today(call: Reference, random: Random) -> Operation:
    project, today = _project(call, random), _today(call)
    tasks = [task for task in _tasks(call, project) if task["due_date"] == today.isoformat()]
    _every(call, "complete_task", tasks)
    return f"I have done everything in {project['name']} that is due today: complete those tasks.", None


def _overdue_to(call: Reference, random: Random) -> Operation:
    project, today, days = _project(call, random), _today(call), random.randint(1, 6)
    tasks = [task for task in _tasks(call, project) if date.fromisoformat(task["due_date"]) < today]
    _every(call, "update_task", tasks, due_date=(today + timedelta(days=days)).isoformat())
    when = "tomorrow" if days == 1 else f"{days} days from now"
    return f"Give all tasks in {project['name']} whose due date is past a new one, {when}.", None


def _delete_by_priority(call: Reference, random: Random) -> Operation:
    project, priority = _project(call, random), random.randint(1, 4)
    _every(call, "delete_task", [task for task in _tasks(call, project) if task["priority"] == priority])
    return f"Delete all tasks of priority {priority} in {project['name']}.", None


def _postpone(call: Reference, random: Random) -> Operation:
    project, days = _project(call, random), random.randint(1, 9)
    word, least = random.choice((("lowest", True), ("highest", False)))
    tasks = _tasks(call, project)
    rank = (min if least else max)(task["priority"] for task in tasks)
    for task in tasks:
        if task["priority"] == rank:
            due = date.fromisoformat(task["due_date"]) + timedelta(days=days)
            call("update_task", task_id=task["id"], due_date=due.isoformat())
    goal = f"Postpone the tasks in {project['name']} that have the {word} priority there by {days} days each."
    return goal, None


def _longest(call: Reference, random: Random) -> Operation:
    project = _project(call, random)
    word, least = random.choice((("most", False), ("least", True)))
    tasks = [call("get_task_duration", task_id=task["id"]) for task in _tasks(call, project)]
    chosen = best(tasks, lambda task: task["duration"], least=least)
    tool, verb = random.choice((("complete_task", "Complete"), ("delete_task", "Delete")))
    call(tool, task_id=chosen["id"])
    return f"{verb} the task in {project['name']} that takes the {word} time.", None


def _where_i_am(call: Reference, random: Random) -> Operation:
    project, here = _project(call, random), call("get_user_current_location")
    tasks = [call("get_task_description", task_id=task["id"]) for task in _tasks(call, project)]
    _every(call, "complete_task", [task for task in tasks if f"Where: {here}." in task["description"]])
    return f"Complete the tasks in {project['name']} that take place where I am.", None


def _with_person(call: Reference, random: Random) -> Operation:
    project = _project(call, random)
    tasks = [call("get_task_description", task_id=task["id"]) for task in _tasks(call, project)]
    person = random.choice(tasks)["description"].split("With: ")[1].rstrip(".")
    tool, verb = random.choice((("complete_task", "Complete"), ("delete_task", "Delete")))
    _every(call, tool, [task for task in tasks if f"With: {person}." in task["description"]])
    return f"{verb} the tasks in {project['name']} that I was to do with {person}.", None


def _next_task(call: Reference, random: Random) -> Operation:
    project, today, days = _project(call, random), _today(call), random.randint(9, 20)
    chosen = best(_tasks(call, project), lambda task: task["due_date"], least=True)
    call("update_task", task_id=chosen["id"], due_date=(today + timedelta(days=days)).isoformat())
    return f"Move the task in {project['name']} that is due first to {days} days from now.", None


def _common_tasks(call: Reference, random: Random) -> Operation:
    one, other = random.sample(call("get_projects"), 2)
    theirs = [task["content"] for task in _tasks(call, other)]
    _every(call, "delete_task", [task for task in _tasks(call, one) if task["content"] in theirs])
    return f"Delete the tasks in {one['name']} that are also listed in {other['name']}.", None


def _urgent_with_answer(call: Reference, random: Random) -> Operation:
    project = _project(call, random)
    chosen = best(_tasks(call, project), lambda task: task["priority"])
    minutes = call("get_task_duration", task_id=chosen["id"])["duration"]
    call("complete_task", task_id=chosen["id"])
    goal = f"Complete the task in {project['name']} with the highest priority. How many minutes did it take?"
    return goal, minutes


def _minutes(call: Reference, random: Random) -> Operation:
    project, today, days = _project(call, random), _today(call), random.randint(2, 8)
    last = (today + timedelta(days=days)).isoformat()
    tasks = [task for task in _tasks(call, project) if today.isoformat() <= task["due_date"] <= last]
    total = sum(call("get_task_duration", task_id=task["id"])["duration"] for task in some(tasks))
    goal = f"How many minutes do the tasks in {project['name']} take in all that are due from today to {days} days on?"
    return goal, total


def _busiest_project(call: Reference, random: Random) -> Operation:
    projects, today = call("get_projects"), _today(call).isoformat()
    random.shuffle(projects)
    counts = {project["id"]: sum(task["due_date"] == today for task in _tasks(call, project)) for project in projects}
    chosen = best(projects, lambda project: counts[project["id"]])
    if chosen["is_favorite"]:
        raise Unfit
    call("update_project", project_id=chosen["id"], is_favorite=True)
    listed = ", ".join(project["name"] for project in projects)
    return f"Which of {listed} has the most tasks due today? Make it a favorite and answer with its name.", chosen[
        "name"
    ]


TEMPLATES: tuple[Template, ...] = (
    _favorite,
    _only_favorite,
    _favorite_with_most_tasks,
    _complete_due_today,
    _overdue_to,
    _delete_by_priority,
    _postpone,
    _longest,
    _where_i_am,
    _with_person,
    _next_task,
    _common_tasks,
    _urgent_with_answer,
    _minutes,
    _busiest_project,
)

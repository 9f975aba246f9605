"""Environments by name: the built-in ones, and those that other packages offer as an entry point.

A package adds its own with one line in its pyproject.toml:

    [project.entry-points."agentrm.environments"]
    chess = "my_package.chess:Chess"
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS, Task
from agentrm.environments.base import OFFICIAL, Environment
from agentrm.environments.perturbations import MARK, perturbed

GROUP = "agentrm.environments"

BUILT_IN = {
    "alfworld": "agentrm.environments.alfworld.environment:ALFWorld",
    "babyai": "agentrm.environments.babyai.environment:BabyAI",
    "jericho": "agentrm.environments.jericho.environment:Jericho",
    "maze": "agentrm.environments.maze.environment:Maze",
    "pddl": "agentrm.environments.pddl.environment:PDDL",
    "scienceworld": "agentrm.environments.scienceworld.environment:ScienceWorld",
    "tooloperation": "agentrm.environments.tools.tooloperation:ToolOperation",
    "toolquery": "agentrm.environments.tools.toolquery:ToolQuery",
    "webshop": "agentrm.environments.webshop.environment:WebShop",
}


@cache
def _entries() -> dict[str, EntryPoint]:
    """Every environment by name; a built-in name cannot be taken by another package."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    return entries | {name: EntryPoint(name, path, GROUP) for name, path in BUILT_IN.items()}


def names() -> list[str]:
    """The names of all environments, sorted, without their perturbations; their engines need not be installed."""
    return sorted(_entries())


def environment_class(name: str) -> type[Environment]:
    """The class of an environment, without its engine; `name+perturbation` is the environment in another wording.

    Raises UserError for an unknown name or perturbation and for a broken entry point.
    """
    base, mark, perturbation = name.partition(MARK)
    return perturbed(_base_class(base), perturbation) if mark else _base_class(base)


def base_name(name: str) -> str:
    """The name of the environment that `name` is, or is a perturbation of."""
    return name.partition(MARK)[0]


def data_variables() -> dict[str, str]:
    """The variables that name official data here, with absolute paths, for processes in other places."""
    named: dict[str, str] = {}
    for name in names():
        with suppress(UserError):
            for data in getattr(_base_class(name), "official", ()):
                named |= data.named()
    return named


def find_task(name: str, seed: int) -> Task:
    """The task of an id such as `babyai.goto_local.test.3`; one that ends in another number has that seed, one that
    ends in the identity of official data is of that data.

    Raises UserError that says which part names nothing.
    """
    parts = name.split(".")
    ending = ""
    if len(parts) > 4 and parts[-2].isdigit() and (parts[-1].isdigit() or parts[-1].startswith(OFFICIAL)):
        ending = parts.pop()
    if len(parts) < 4 or not parts[-1].isdigit():
        raise UserError(f"{name} is no task: write environment.kind.split.index, such as babyai.goto_local.test.3")
    environment, *kinds, split, index = parts
    kind = ".".join(kinds)
    cls = environment_class(environment)
    if kind not in cls.every_kind():
        raise UserError(f"{name} is no task: {environment} has the kinds {', '.join(cls.every_kind())}")
    if split not in SPLITS:
        raise UserError(f"{name} is no task: the split must be one of {', '.join(SPLITS)}")
    if ending.isdigit():
        task = Task(environment, kind, split, int(index), int(ending))
    else:
        task = cls.task(kind, split, int(index), seed)
    if ending.startswith(OFFICIAL) and ending != task.data:
        raise UserError(f"{name} is no task: {environment}'s tasks here are of {task.data or 'no official data'}")
    cls.check(task)
    return task


@cache
def _base_class(name: str) -> type[Environment]:
    if name not in _entries():
        raise UserError(f"unknown environment {name!r}: choose one of {', '.join(names())}")
    entry = _entries()[name]
    try:
        cls = entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"environment {name} cannot be loaded from {entry.value}: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Environment)):
        raise UserError(f"environment {name} ({entry.value}) must be a subclass of {Environment.__qualname__}")
    return cls


def make(name: str) -> Environment:
    """A new environment. Raises UserError when the name is unknown or its engine is not installed."""
    return environment_class(name)()

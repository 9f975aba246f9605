"""What there is to know about an environment before playing it."""

from __future__ import annotations

from typing import TypedDict

from agentrm.environments.base import SPLITS
from agentrm.environments.registry import environment_class, make
from agentrm.errors import AgentRMError


class Description(TypedDict):
    """One environment; `tasks` counts over all kinds by split, `problem` says why it cannot start here."""

    name: str
    engine: str
    licence: str
    kinds: list[str]
    tasks: dict[str, int]
    max_steps: int
    snapshots: bool
    installed: bool
    problem: str


def describe(name: str) -> Description:
    """Describe an environment, starting its engine once to see whether it is installed. Raises UserError."""
    cls = environment_class(name)
    try:
        make(name).close()
        problem = ""
    except AgentRMError as error:
        problem = str(error)
    return {
        "name": name,
        "engine": cls.engine,
        "licence": cls.licence,
        "kinds": list(cls.kinds),
        "tasks": {split: 0 if problem else sum(cls.size(kind, split) for kind in cls.kinds) for split in SPLITS},
        "max_steps": cls.max_steps,
        "snapshots": cls.snapshots,
        "installed": not problem,
        "problem": problem,
    }

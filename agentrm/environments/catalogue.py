"""What there is to know about an environment before playing it, as data and as a table."""

from __future__ import annotations

from agentrm.core.errors import AgentRMError
from agentrm.core.task import SPLITS
from agentrm.environments.measure import Measurement, measure
from agentrm.environments.registry import environment_class, make


class Description(Measurement):
    """One environment. `kinds` has those of official data only where that is here; `tasks` counts over all others by
    split; `restore` says how a session comes back to an earlier
    state, by `snapshot` or `replay`; `perturbations` names its wordings; `problem` says why the environment cannot
    start here. What is measured is there only where that was asked for and the environment can start.
    """

    name: str
    engine: str
    licence: str
    kinds: list[str]
    tasks: dict[str, int]
    max_steps: int
    restore: str
    perturbations: list[str]
    installed: bool
    problem: str


def describe(name: str) -> Description:
    """Describe an environment, starting its engine once to see whether it is installed. Raises UserError."""
    cls = environment_class(name)
    kinds, tasks, problem = list(cls.kinds), dict.fromkeys(SPLITS, 0), ""
    try:
        make(name).close()
        kinds += [kind for kind in cls.published_kinds if any(cls.data(kind, split) for split in SPLITS)]
        tasks = {split: sum(cls.size(kind, split) for kind in cls.kinds) for split in SPLITS}
    except AgentRMError as error:
        problem = str(error)
    return {
        "name": name,
        "engine": cls.engine,
        "licence": cls.licence,
        "kinds": kinds,
        "tasks": tasks,
        "max_steps": cls.max_steps,
        "restore": "snapshot" if cls.snapshots else "replay",
        "perturbations": list(cls.perturbations),
        "installed": not problem,
        "problem": problem,
    }


def describe_measured(name: str) -> Description:
    """Describe an environment and measure it, if it can start here."""
    row = describe(name)
    if row["installed"]:
        row.update(measure(name))
    return row

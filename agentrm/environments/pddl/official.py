"""AgentBoard's PDDL problems, from the folder of its project."""

from __future__ import annotations

from pathlib import Path

from agentrm.core.errors import UserError
from agentrm.environments.official import Published, announce
from agentrm.environments.pddl import DATA_VARIABLE, OFFICIAL
from agentrm.environments.pddl.engine import Problem
from agentrm.environments.screening import screen


def published_problems(folder: Path, kind: str) -> Published:
    """The first problems of a kind by file name, as many as AgentBoard's test takes; one that cannot be played leaves
    its place empty. Raises UserError for a folder without any.
    """
    name, count = OFFICIAL[kind]
    found = sorted(path for path in (folder / name).glob("*.pddl") if not path.name.startswith("."))[:count]
    entries, left_out = screen(folder, found, f"{__name__}:check_problem")
    announce(DATA_VARIABLE, folder / name, len(entries), left_out)
    if not entries:
        raise UserError(
            f"{DATA_VARIABLE}: there is no {folder / name}/*.pddl that can be played; name AgentBoard's pddlgym/pddl, "
            "or unset it"
        )
    return Published.of(entries, left_out)


def check_problem(path: Path) -> None:
    """Raise ValueError, with the line where there is one, for a file that is no problem of its folder's domain."""
    kind = next(kind for kind, (name, _) in OFFICIAL.items() if name == path.parent.name)
    problem = read_problem_file(kind, path)
    if problem.goals <= problem.initial:
        raise ValueError("asks for nothing: its goal holds at the start")


def read_problem_file(kind: str, path: Path) -> Problem:
    """The problem in a file; what is no UTF-8 can only be in comments. Raises ValueError as `Problem.parse` does."""
    return Problem.parse(kind, path.read_text(encoding="utf-8", errors="replace"))

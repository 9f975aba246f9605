"""AgentBoard's PDDL problems, from the folder of its project."""

from __future__ import annotations

import re
from pathlib import Path

from agentrm.core.errors import UserError
from agentrm.environments import agentboard
from agentrm.environments.official import Published, announce
from agentrm.environments.pddl import DATA_VARIABLE, OFFICIAL
from agentrm.environments.pddl.engine import Problem
from agentrm.environments.screening import Entry, screen

_WORD = re.compile(r"[\w-]+")


def published_problems(folder: Path, kind: str) -> Published:
    """The first problems of a kind by file name, as many as AgentBoard's test takes; where its data is here too, those
    that its lines name by their goals, in its order. One that cannot be played leaves its place empty. Raises UserError
    for a folder without any.
    """
    name, count = OFFICIAL[kind]
    paths = sorted(path for path in (folder / name).glob("*.pddl") if not path.name.startswith("."))
    lines = _lines(kind) if agentboard.lines_file("pddl") else None
    entries, left_out = screen(folder, paths if lines else paths[:count], f"{__name__}:read_goals")
    if lines:
        entries, left_out = _named(entries, left_out, *lines)
    announce(DATA_VARIABLE, folder / name, len(entries), left_out)
    if not entries:
        raise UserError(
            f"{DATA_VARIABLE}: there is no {folder / name}/*.pddl that can be played; name AgentBoard's pddlgym/pddl, "
            "or unset it"
        )
    return Published.of(entries, left_out)


def read_goals(path: Path) -> list[list[str]]:
    """The objects of each fact of a problem's goal, sorted. Raises ValueError, with the line where there is one, for a
    file that is no problem of its folder's domain.
    """
    kind = next(kind for kind, (name, _) in OFFICIAL.items() if name == path.parent.name)
    problem = read_problem_file(kind, path)
    if problem.goals <= problem.initial:
        raise ValueError("asks for nothing: its goal holds at the start")
    return sorted(sorted(problem.facts[number][1:]) for number in problem.goals)


def _lines(kind: str) -> tuple[list[tuple[agentboard.Line, str]], dict[str, str]]:
    """AgentBoard's lines of a kind, and by name why one, of whichever kind, is left out."""
    names = {**{name: kind for kind, (name, _) in OFFICIAL.items()}, **{kind: kind for kind in OFFICIAL}}

    def parse(line: agentboard.Line) -> str:
        line.patterns  # noqa: B018 - they must be texts
        subtask = line.text("subtask").lower()
        if subtask not in names:
            raise ValueError(f"its subtask {subtask:.40} is no domain")
        return names[subtask]

    lines, left_out = agentboard.read_lines("pddl", parse)
    return [(line, line_kind) for line, line_kind in lines if line_kind == kind], left_out


def _named(
    entries: tuple[Entry, ...],
    unplayable: dict[str, str],
    lines: list[tuple[agentboard.Line, str]],
    left_out: dict[str, str],
) -> tuple[tuple[Entry, ...], dict[str, str]]:
    """The problem of each line: the first that is left of those with its goal."""
    left, problems = list(entries), []
    for line, _ in lines:
        words = [_WORD.findall(pattern.lower()) for pattern in line.patterns]
        entry = next((problem for problem in left if problem.value == _objects(words, problem)), None)
        if entry is None:
            left_out[f"pddl/test.jsonl, id {line.number}"] = "its goal is that of no problem that can be played"
            continue
        left.remove(entry)
        problems.append(entry)
    return tuple(problems), unplayable | left_out


def _objects(facts: list[list[str]], entry: Entry) -> list[list[str]]:
    known = {name for objects in entry.value for name in objects}
    return sorted(sorted(word for word in words if word in known) for words in facts)


def read_problem_file(kind: str, path: Path) -> Problem:
    """The problem in a file; what is no UTF-8 can only be in comments. Raises ValueError as `Problem.parse` does."""
    return Problem.parse(kind, path.read_text(encoding="utf-8", errors="replace"))

"""Every module can be the first one that is imported: no two of them need each other to begin with."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("agentrm", "actors", "jobs")
    for path in (ROOT / package).rglob("*.py")
}


def executed(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs while a module is imported: not what is in functions, nor what only type checkers read."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.If() | ast.Try() | ast.With() | ast.ClassDef():
                yield from executed(statement.body)
            case _:
                yield statement


def needed(name: str) -> set[str]:
    """The modules that must be whole before one can be: those it imports, and the packages that these are in."""
    named: set[str] = set()
    for statement in executed(ast.parse(MODULES[name].read_text()).body):
        match statement:
            case ast.Import(names=names):
                named |= {each.name for each in names}
            case ast.ImportFrom(module=str(module), names=names):
                found = {f"{module}.{each.name}" for each in names}
                named |= found & MODULES.keys() or {module}
    around = {package for each in named for package in packages(each)} - packages(name)
    return (named | around) & MODULES.keys() - {name}


def packages(name: str) -> set[str]:
    """The packages that a module is in, which Python imports before it."""
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def test_no_module_needs_one_that_needs_it() -> None:
    assert {"agentrm.config", "agentrm.core.actions", "actors.serving", "jobs.trees"} <= MODULES.keys()
    TopologicalSorter({name: needed(name) for name in MODULES}).prepare()

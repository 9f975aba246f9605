"""What the pages say is so: commands run, or say what they need; Python, keys, paths and links are there."""

from __future__ import annotations

import ast
import importlib
import json
import re
import runpy
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
import yaml
from typer.testing import CliRunner

import agentrm
from agentrm.config.loading import flatten, load
from agentrm.config.schema import Config
from jobs.cli import app
from jobs.importing import told_apart
from jobs.submit import checked

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
NEEDS = {
    "takes minutes",
    "after the quickstart",
    "reads what you type",
    "needs a GPU",
    "needs a cluster",
    "needs Kubernetes",
    "needs your package",
    "needs your episodes",
}
"""Why a block of commands is not run here, as its title says."""
OF_LATER_PYTHONS = {"openhands"}
"""Packages that pages name which this project's Python cannot install."""
FENCE = re.compile(r'^```(?:\{ \.)?(\w+)(?: title="([^"]*)")?(?: \})?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
FORMER_KEYS = "results.md"
"""The page whose commands are those of their commits."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title, its text, and where it stands."""

    page: str
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0]}"

    def commands(self) -> list[str]:
        """What is typed, without comments: each command from its `$` to the next one's."""
        typed = re.findall(r"^\$ (.*?)(?=^\$ |\Z)", self.text.replace("\\\n", " "), re.MULTILINE | re.DOTALL)
        return [shlex.join(shlex.split(command, comments=True)) for command in typed]


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        fences = FENCE.findall(page.read_text())
        found += [Block(page.name, *fence) for fence in fences if fence[0] == language]
    return found


def spans() -> Iterator[tuple[str, str]]:
    """Every span of code in a line with the name of its page."""
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        yield from ((page.name, span) for span in re.findall(r"`([^`\n]+)`", prose))


@cache
def command_line() -> Any:
    return typer.main.get_command(app)


def subcommand(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words after `agentrm` name, and the rest of them."""
    command, rest = command_line(), list(words)
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"no command {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    return command, rest


COMMANDS = sorted({command for block in blocks("console") for command in block.commands()})
UNMARKED = sorted({command for block in blocks("console") if not block.title for command in block.commands()})


def test_every_block_of_commands_holds_some_and_is_run_or_says_why_not() -> None:
    for block in blocks("console"):
        assert block.commands(), block
        assert not block.title or block.title in NEEDS, block
    assert {block.title for block in blocks("console")} == NEEDS | {""}
    assert not blocks("bash") + blocks("sh") + blocks("shell")
    for page in PAGES:
        text = page.read_text()
        assert 2 * len(FENCE.findall(text)) == len(re.findall("^ *```", text, re.MULTILINE)), page


@pytest.mark.parametrize("command", UNMARKED)
def test_a_command_that_needs_nothing_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(command)
    shutil.copy(ROOT / "cluster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    if program == "agentrm":
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.exception
        assert result.stdout or list(tmp_path.glob("*/rayjob.yaml"))
    else:
        assert program == "python" and len(arguments) == 1, "give its block a title that says what it needs"
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("agentrm ") and "--help" not in each])
def test_the_command_line_takes_it(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options, and its keys with their values; nothing is started."""
    for file in blocks("yaml"):
        (tmp_path / file.title).write_text(file.text)
    shutil.copy(ROOT / "cluster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    found, rest = subcommand(shlex.split(command)[1:])
    given = found.make_context(found.name, rest).params
    if "sources" in given:
        load(given["preset"], told_apart(given["sources"])[1])
    elif "arguments" in given:
        checked(given.get("job") or given["name"], given["preset"], given["arguments"] or [])
    elif "preset" in given:
        load(given["preset"], given["overrides"] or [])


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs_or_its_imports_resolve(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    included = re.fullmatch(r'--8<-- "(examples/\w+\.py)"\n', block.text)
    if included:
        assert block.title == included[1]  # tests/examples runs it
        text = (ROOT / included[1]).read_text()
    else:
        text = block.text
    nodes = list(ast.walk(ast.parse(text)))
    if any(isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OF_LATER_PYTHONS for node in nodes):
        pytest.skip("tests/agentrm/service/test_critic.py runs it where its packages are")
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "agentrm":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, each.name) for each in node.names), ast.unparse(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            assert all(map(find_spec, names)), ast.unparse(node)
    if not block.title and block.page != "README.md":  # tests/examples runs the README's, with a service
        exec(compile(text, block.page, "exec"), {"__name__": block.page})


def test_data_in_blocks_can_be_read() -> None:
    for block in blocks("toml"):
        assert tomllib.loads(block.text)
    for block in blocks("json"):
        assert json.loads(block.text)
    for block in blocks("yaml"):
        assert yaml.safe_load(block.text)


def is_key(name: str) -> bool:
    hint: Any = Config
    for part in name.split("."):
        hints = get_type_hints(hint) if is_dataclass(hint) else {}
        if part not in hints:
            return False
        hint = hints[part]
    return True


def test_keys_that_pages_name_exist() -> None:
    groups = "|".join(name for name, hint in get_type_hints(Config).items() if is_dataclass(hint))
    key = re.compile(rf"'?((?:{groups})(?!\.yaml)(?:\.[a-z_]+)+)(?:=.*)?")
    words = [(page, word) for page, span in spans() for word in span.split() if page != FORMER_KEYS]
    named = [(page, found[1]) for page, word in words if (found := key.fullmatch(word))]
    assert len(named) > 50
    assert not [each for each in named if not is_key(each[1])]


def test_commands_and_paths_that_pages_name_exist() -> None:
    for page, span in spans():
        if span.startswith("agentrm "):
            subcommand(span.split()[1:])
        elif re.fullmatch(r"(agentrm|actors|jobs|tests|docs|examples|tools)/[a-z_\d./-]*", span):
            assert (ROOT / span).exists(), f"{page}: there is no {span}"


def test_links_lead_somewhere() -> None:
    """MkDocs checks those among its pages; here are those that it does not see."""
    for page in PAGES[:2]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            assert (ROOT / path).exists(), f"{page.name}: {link}"
            headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE) if anchor else []
            slugs = {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}
            assert not anchor or anchor in slugs, f"{page.name}: {link}"


def test_the_readme_is_short_and_its_picture_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 8192
    (picture,) = re.findall(r"!\[.+\]\((.+\.svg)\)", text)
    drawn = (ROOT / picture).read_text()
    assert len(drawn) < 100_000
    assert "best of 5" in drawn and "held-out environments" in drawn


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == agentrm.__version__
    assert "2502.18407" in cited["preferred-citation"]["url"]


def test_the_page_of_keys_holds_every_key_with_its_bound() -> None:
    made = runpy.run_path(str(ROOT / "tools" / "pages.py"))["keys"]()
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", made, re.MULTILINE))
    assert set(flatten(load("quickstart"))) <= set(rows)
    assert rows["trees.discount"] == "number | `1.0` | from 0 to 1"
    assert rows["evaluate.gate"] == "number, or none | none | "
    assert rows["train.kind"].startswith("`explicit`, `implicit`")
    assert rows["count"] == "integer | required | above 0"


def test_the_reference_has_a_page_for_every_package_and_every_public_name() -> None:
    made = runpy.run_path(str(ROOT / "tools" / "pages.py"))["reference"]()
    listed = yaml.safe_load((ROOT / "mkdocs.yml").read_text().split("nav:")[1].split("\nmarkdown_extensions")[0])
    (section,) = (each["API reference"] for each in listed if "API reference" in each)
    assert {page if isinstance(page, str) else next(iter(page.values())) for page in section} == set(made)
    assert "::: agentrm.search.beam" in made["reference/search.md"]
    for name in ("agentrm.core.task.Task", "agentrm.search.beam.Beam"):
        assert f"[`{name.rpartition('.')[2]}`][{name}]" in made["reference/index.md"]

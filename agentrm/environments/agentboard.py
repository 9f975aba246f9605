"""AgentBoard's published tests (Ma et al. 2024, `hkust-nlp/agentboard`): a file of lines for each of its environments.

A line is `{id, task, goal, subgoals, difficulty, additional_info{...}}`; the subgoals are a list, or a text that
numbers them ("Subgoal 1: ..."). Lines that cannot be used are left out and told by reason; they never end a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentrm.core.errors import UserError
from agentrm.environments.official import OfficialData, Published, announce, identity, named_folder

DATA_VARIABLE = "AGENTBOARD_DATA"
KIND = "agentboard"
SOURCE = "AgentBoard's data (the data set hkust-nlp/agentboard, unpacked)"
MAX_STEPS = 30
"""The step limit of all environments but the tools."""

_NUMBER = re.compile(r"\s*\b(?:Subgoal|Action) \d+:\s*")
_CALLS_LISTED = "Reference Action Path"


@dataclass(frozen=True, slots=True)
class Line:
    """One task: `goal` in the project's words, `subgoals` as it wrote them, `info` what only this environment has;
    `calls` are those of the reference where the file lists them in the place of subgoals.
    """

    number: int
    goal: str
    subgoals: tuple[Any, ...]
    difficulty: str
    info: Mapping[str, Any]
    calls: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> Line:
        """Raises ValueError with the reason for text that is no such line."""
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("no JSON") from None
        if not isinstance(row, dict):
            raise ValueError("no JSON object")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a character, which is no text") from None
        number, goal, subgoals = row.get("id"), row.get("goal"), row.get("subgoals") or []
        calls: tuple[str, ...] = ()
        info = row.get("additional_info", {})
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError("its id is no number from 0")
        if not isinstance(goal, str) or not goal.strip():
            raise ValueError("its goal is no text")
        if isinstance(subgoals, str):
            before, *numbered = (part.strip() for part in _NUMBER.split(subgoals))
            if before.startswith(_CALLS_LISTED):
                subgoals, calls = [], tuple(numbered)
            else:
                subgoals = numbered or [before]
        if not isinstance(subgoals, list):
            raise ValueError("its subgoals are no list")
        if not isinstance(info, dict):
            raise ValueError("its additional_info is no object")
        return cls(number, goal, tuple(subgoals), str(row.get("difficulty", "")), info, calls)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The subgoals of an environment that matches them with what is observed. Raises ValueError for others."""
        if not self.subgoals:
            raise ValueError("it has no subgoals")
        if not all(isinstance(subgoal, str) and subgoal.strip(" .*") for subgoal in self.subgoals):
            raise ValueError("a subgoal is no text to look for")
        return self.subgoals

    def text(self, name: str) -> str:
        """A text of the additional_info. Raises ValueError where it is none."""
        value = self.info.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"its additional_info has no text {name}")
        return value

    def count(self, name: str) -> int:
        """A number of the additional_info. Raises ValueError where it is none."""
        value = self.info.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"its additional_info has no number {name}")
        return value


def official_tests(
    read: Callable[[Path, str, str], Published], holds: Callable[[str], bool] = KIND.__eq__
) -> OfficialData:
    """AgentBoard's tests of those kinds that `holds` says, as official data; `read` is that of `OfficialData`."""
    return OfficialData(DATA_VARIABLE, lambda kind, split: split == "test" and holds(kind), read, SOURCE)


def lines_file(name: str, folder: Path | None = None) -> Path | None:
    """The file of an environment of AgentBoard's in a folder (by default the user's), which is the data set's or its
    `data`; None where it is not there.
    """
    folder = folder or named_folder(DATA_VARIABLE)
    if folder is None:
        return None
    ways = (folder / "data" / name / "test.jsonl", folder / name / "test.jsonl")
    return next((path for path in ways if path.is_file()), None)


def read_lines(
    name: str, parse: Callable[[Line], Any], folder: Path | None = None
) -> tuple[list[tuple[Line, Any]], dict[str, str]]:
    """The lines of an environment's file in their order, each with what `parse` makes of it, and by name why another
    one is left out. `parse` raises ValueError with the reason. Raises UserError where the file is not there.
    """
    path = lines_file(name, folder)
    if path is None:
        raise UserError(
            f"{DATA_VARIABLE}={folder or named_folder(DATA_VARIABLE)} holds no data/{name}/test.jsonl: get {SOURCE}, "
            "or unset it"
        )
    kept, left_out, seen = [], {}, set()
    # What is no UTF-8 makes its line unusable, not the file.
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            line = Line.read(text.decode())
            if line.number in seen:
                raise ValueError("its id stands in an earlier line")
            value = parse(line)
            _content(line)
        except UserError:
            raise
        except UnicodeDecodeError:
            left_out[f"{name}/test.jsonl:{number}"] = "no UTF-8"
            continue
        except ValueError as error:
            left_out[f"{name}/test.jsonl:{number}"] = str(error)
            continue
        except Exception as error:
            # Whatever a stranger's line holds, it is the line's fault.
            left_out[f"{name}/test.jsonl:{number}"] = f"cannot be read ({type(error).__name__})"
            continue
        seen.add(line.number)
        kept.append((line, value))
    return kept, left_out


def published_lines(name: str, parse: Callable[[Line], Any], folder: Path) -> Published:
    """An environment's lines as official tasks: an entry is what `parse` made of a line. Raises UserError where no line
    can be used.
    """
    kept, left_out = read_lines(name, parse, folder)
    announce(DATA_VARIABLE, folder, len(kept), left_out)
    if not kept:
        raise UserError(f"{DATA_VARIABLE}: no line of {lines_file(name, folder)} can be used")
    name_of_data = identity([_content(line) for line, _ in kept])
    return Published(tuple(value for _, value in kept), name_of_data, left_out)


def _content(line: Line) -> str:
    """All that a line holds, as text. Raises RecursionError for one that is nested too deeply."""
    content = asdict(line)
    # Where no calls are listed, as before there were any: the same lines have the same name.
    return json.dumps(
        content if line.calls else {key: content[key] for key in content if key != "calls"}, sort_keys=True
    )

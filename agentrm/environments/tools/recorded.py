"""AgentBoard's ToolQuery on recorded answers: no live service is asked, a call gets what the reference call got."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrm.environments import agentboard
from agentrm.environments.official import Published
from agentrm.environments.tools.database import Database
from agentrm.environments.tools.query import QueryToolkit
from agentrm.environments.tools.reference import Answer, same_answer
from agentrm.environments.tools.toolkit import ToolError, write_action, write_result

SUFFIX = "_recorded"
"""Ends the kind of a tool's recorded questions."""

_LABEL = re.compile(r"^\s*Action:\s*")


@dataclass(frozen=True, slots=True)
class RecordedQuestion:
    """A question with the reference calls and what each of them returned, as texts."""

    toolkit: type[QueryToolkit]
    goal: str
    answer: Answer
    calls: tuple[str, ...]
    answers: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def actions(self) -> tuple[str, ...]:
        """What solves it."""
        return *self.calls, write_action("finish", {"answer": self.answer})

    def kit(self) -> QueryToolkit:
        """The tools; a call that was not recorded is refused."""
        base = self.toolkit
        known: dict[str, str] = {}

        class Recorded(base):  # type: ignore[misc, valid-type]
            """Answers what was recorded."""

            def run(self, name: str, arguments: dict[str, Any]) -> Any:
                if name in ("finish", "check_valid_actions"):
                    return super().run(name, arguments)
                found = known.get(_key(name, arguments))
                if found is None:
                    raise ToolError(f"{name}: there is no recorded answer to this call")
                return found

        kit = Recorded(Database())
        for action, answer in zip(self.calls, self.answers, strict=True):
            known[_key(*kit.parse(action))] = answer
        return kit


def recorded_questions(folder: Path, tool: str, toolkit: type[QueryToolkit]) -> Published:
    """The questions about one tool whose reference calls were recorded. Raises UserError as
    `agentboard.published_lines` does.
    """

    def parse(line: agentboard.Line) -> RecordedQuestion | None:
        return _question(line, toolkit) if line.text("tool") == tool else None

    found = agentboard.published_lines("tool-query", parse, folder)
    entries = tuple(each for each in found.entries if each is not None)
    return Published(entries, found.identity, found.left_out)


def _question(line: agentboard.Line, toolkit: type[QueryToolkit]) -> RecordedQuestion:
    """Raises ValueError for reference calls that are not there, or that these tools do not take."""
    path, answer = line.info.get("action_path"), line.info.get("answer")
    if not isinstance(path, list) or not path:
        raise ValueError("its additional_info has no action_path")
    if not isinstance(answer, str | int | float | list) or isinstance(answer, bool) or answer in ("", []):
        raise ValueError("its additional_info has no answer")
    given = [_action(each) for each in path]
    calls = [each for each in given if not each.startswith("finish ")]
    results = list(line.subgoals)
    # The answer is one more subgoal there; here it counts by itself.
    if len(results) == len(calls) + 1 and _is_answer(results[-1], answer):
        results.pop()
    if len(results) != len(calls):
        raise ValueError("its subgoals are not as many as its action_path has calls")
    kit = toolkit(Database())
    for action in calls:
        try:
            kit.parse(action)
        except ToolError as error:
            raise ValueError(f"a call of its action_path is none of these tools ({error})") from None
    texts = tuple(map(write_result, results))
    return RecordedQuestion(toolkit, line.goal, answer, tuple(calls), texts, tuple(dict.fromkeys(texts)))


def _action(given: Any) -> str:
    action = given.get("Action", given.get("action")) if isinstance(given, dict) else given
    if not isinstance(action, str):
        raise ValueError("its action_path holds what is no call")
    return _LABEL.sub("", action).strip()


def _is_answer(result: Any, answer: Any) -> bool:
    try:
        return same_answer(result, answer)
    except TypeError:
        return False


def _key(name: str, arguments: dict[str, Any]) -> str:
    return f"{name} {sorted(arguments.items())!r}"

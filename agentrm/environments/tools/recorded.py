"""AgentBoard's tool tests on recorded answers: no live service is asked, a call gets what the reference call got."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrm.environments import agentboard
from agentrm.environments.official import Published
from agentrm.environments.tools.reference import Answer, same_answer
from agentrm.environments.tools.toolkit import ToolError, Toolkit, write_action, write_result

SUFFIX = "_recorded"
"""Ends the kind of a tool's recorded tests."""

_LABEL = re.compile(r"^\s*Action:\s*")
_INPUT = re.compile(r"\s+with\s+Action\s+Input:\s*")
_OFF_THE_RECORD = ("finish", "check_valid_actions")


@dataclass(frozen=True, slots=True)
class Recording:
    """What is asked for, the reference calls, and what each of them returned, as texts; `answer` is None where none is
    asked for.
    """

    toolkit: type[Toolkit]
    goal: str
    answer: Answer | None
    calls: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def results(self) -> tuple[str, ...]:
        """What there is to be seen, without repetitions."""
        return tuple(dict.fromkeys(self.answers))

    @property
    def actions(self) -> tuple[str, ...]:
        """What solves it."""
        return *self.calls, write_action("finish", {} if self.answer is None else {"answer": self.answer})

    def kit(self, loaded: frozenset[Any] = frozenset()) -> Any:
        """The tools, where the calls with the numbers `loaded` were answered before; a call that was not recorded is
        refused, and one that was recorded several times gets its answers in their order, then the last.
        """
        base: Any = self.toolkit
        numbers: dict[str, list[int]] = {}
        for number, action in enumerate(self.calls):
            numbers.setdefault(_key(*base.parse(action)), []).append(number)
        answers, actions = self.answers, list(self.actions)

        class Recorded(base):
            """Answers what was recorded; there is no world behind it."""

            def __init__(self) -> None:
                self.loaded = loaded

            def run(self, name: str, arguments: dict[str, Any]) -> Any:
                if name in _OFF_THE_RECORD:
                    return super().run(name, arguments)
                known = numbers.get(_key(name, arguments))
                if known is None:
                    raise ToolError(f"{name}: there is no recorded answer to this call")
                number = next((index for index in known if index not in self.loaded), known[-1])
                self.loaded |= {number}
                return answers[number]

            def calls(self) -> list[str]:
                return actions

            def save(self) -> frozenset[Any]:
                return self.loaded

            def close(self) -> None:
                """There is nothing to release."""

        return Recorded()


def recordings(folder: Path, file: str, tool: str, toolkit: type[Toolkit]) -> Published:
    """The tests of one tool in an AgentBoard's file (such as `tool-query`) whose reference calls were recorded. Raises
    UserError as `agentboard.published_lines` does.
    """

    def parse(line: agentboard.Line) -> Recording | None:
        return _recording(line, file, toolkit) if line.text("tool") == tool else None

    published = agentboard.published_lines(file, parse, folder)
    entries = tuple(entry for entry in published.entries if entry is not None)
    return Published(entries, published.identity, published.left_out)


def reference_calls(line: agentboard.Line, toolkit: type[Toolkit]) -> tuple[str, ...]:
    """The calls of a line's reference, as actions, without `finish`. Raises ValueError for what is none of the tools'
    calls.
    """
    given = line.info.get("action_path") or line.calls
    if not isinstance(given, list | tuple):
        raise ValueError("its action_path is no list of calls")
    calls = tuple(call for call in map(_action, given) if not call.startswith("finish "))
    for action in calls:
        try:
            toolkit.parse(action)
        except ToolError as error:
            raise ValueError(f"a call of its action_path is none of these tools ({error})") from None
    return calls


def _recording(line: agentboard.Line, file: str, toolkit: type[Toolkit]) -> Recording:
    """Raises ValueError for reference calls that are not there, or that these tools do not take."""
    calls = reference_calls(line, toolkit)
    if not calls:
        raise ValueError("its additional_info has no action_path")
    asks = file == "tool-query"
    answer: Any = line.info.get("answer")
    if asks and not _is_answer(answer):
        raise ValueError("its additional_info has no answer")
    results = list(line.subgoals)
    # The answer is one more subgoal there; here it counts by itself.
    if len(results) == len(calls) + 1 and _is_answer(results[-1]) and (not asks or same_answer(results[-1], answer)):
        last = results.pop()
        answer = answer if asks else last
    elif not asks:
        answer = None
    if len(results) != len(calls):
        raise ValueError("its subgoals are not as many as its action_path has calls")
    return Recording(toolkit, line.goal, answer, calls, tuple(map(write_result, results)))


def _action(given: Any) -> str:
    """A call as an action: given as one, or as an object of `Action` and `Action Input`; its arguments may be written
    in Python, lists in them as texts.
    """
    if isinstance(given, dict):
        name = given.get("Action", given.get("action"))
        arguments = given.get("Action Input", given.get("action_input"))
        given = name if arguments is None or not isinstance(name, str) else f"{name} with Action Input: {arguments}"
    if not isinstance(given, str):
        raise ValueError("its action_path holds what is no call")
    action = _LABEL.sub("", given).strip()
    name, *rest = _INPUT.split(action, maxsplit=1)
    try:
        return write_action(name, _arguments(rest[0])) if rest else action
    except TypeError:
        raise ValueError("a call of its action_path has arguments that JSON cannot hold") from None


def _arguments(text: str) -> dict[str, Any]:
    for read in (json.loads, ast.literal_eval):
        try:
            arguments = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(arguments, dict):
            return {str(name): _listed(value) for name, value in arguments.items()}
    raise ValueError("a call of its action_path has arguments that are no object")


def _listed(value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith("[")):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def _is_answer(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str | int | float) for item in value)
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _key(name: str, arguments: dict[str, Any]) -> str:
    return f"{name} {sorted(arguments.items())!r}"

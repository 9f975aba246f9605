"""AgentBoard's ScienceWorld: 90 variations with a rewritten goal, and subgoals looked for in what is observed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agentrm.environments import agentboard
from agentrm.environments.official import Published

# What AgentBoard's evaluation sets, so that doors and containers are open.
SIMPLIFICATION = "selfWateringFlowerPots,openContainers,openDoors,noElectricalAction"
CHECK = "check valid actions"
# How many variations each of those tasks has that the generated kinds leave out.
_OTHERS = {
    "grow-fruit": 126,
    "power-component": 20,
    "power-component-renewable-vs-nonrenewable-energy": 20,
    "use-thermometer": 540,
}
_NUMBERED = re.compile(r"task-[0-9]+[a-z]?-")


@dataclass(frozen=True, slots=True)
class BoardTask:
    """One variation of a task: `subgoals` are regular expressions."""

    task: str
    variation: int
    goal: str
    subgoals: tuple[str, ...]


def published_tasks(folder: Path, variations: Mapping[str, int]) -> Published:
    """AgentBoard's lines as tasks; `variations` counts those of each task of the engine. Raises UserError as
    `agentboard.published_lines` does.
    """
    counts = {**variations, **_OTHERS}

    def parse(line: agentboard.Line) -> BoardTask:
        name = _NUMBERED.sub("", line.text("env_name" if "env_name" in line.info else "task_name"))
        variation = line.count("var")
        if variation >= counts.get(name, 0):
            raise ValueError("ScienceWorld has no such task or variation")
        for pattern in line.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"a subgoal is no regular expression ({error})") from None
        goal = line.text("modified_goal") if "modified_goal" in line.info else line.goal
        return BoardTask(name, variation, goal, line.patterns)

    return agentboard.published_lines("scienceworld", parse, folder)


def reached(subgoals: tuple[str, ...], before: tuple[bool, ...], observation: str) -> tuple[bool, ...]:
    """Which subgoals were observed so far, in any order."""
    return tuple(
        known or re.search(pattern, observation) is not None for known, pattern in zip(before, subgoals, strict=True)
    )

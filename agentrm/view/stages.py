"""How far a run has come: what each stage has finished, read from the run directory as it is now."""

from __future__ import annotations

from collections import Counter
from typing import Any

from agentrm import storage
from agentrm.data.trees import TreeStore
from agentrm.run import STAGES, RunDirectory
from agentrm.training.recorder import read_progress

Stage = dict[str, Any]

_STAGES = (*((stage.folder, stage.command) for stage in STAGES), ("evaluation", "evaluate"))
"""Folders, and the commands that make them."""


def stages(run: RunDirectory) -> list[Stage]:
    """One row per stage: `name`, `command`, `state` (`done`, `begun`, `missing`), `done` of `total` where it is
    counted, `unit`, and `figures`, the numbers among its metrics.
    """
    rows = []
    seconds = run.metrics("seconds")
    for stage, command in _STAGES:
        if stage == "trees" and run.metrics("import"):
            command = "import"
        done, total, unit = _count(run, stage, command)
        finished = run.finished(stage) and (stage != "trees" or done >= total)
        metrics = run.metrics(command)
        if stage == "demonstrations":
            # They are counted by kind.
            metrics = sum(map(Counter, metrics.values()), Counter[str]())
        figures = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        if command in seconds:
            figures.setdefault("seconds", seconds[command])
        rows.append(
            {
                "name": stage.replace("_", " "),
                "command": f"agentrm {command}",
                "state": "done" if finished else "begun" if done else "missing",
                "done": done,
                "total": total,
                "unit": unit,
                "figures": figures,
            }
        )
    return rows


def _count(run: RunDirectory, stage: str, command: str) -> tuple[int, int, str]:
    """How much of a stage is there, of how much, and what is counted; 0 of 0 where nothing tells."""
    tasks = run.config.tasks
    if stage == "trees":
        trees = sum(task_set.count for task_set in tasks.trees) * run.config.trees.trees_per_task
        return len(TreeStore(run.at(stage)).finished()), trees, "trees"
    if stage == "evaluation":
        sets = tasks.held_in + tasks.held_out_kinds + tasks.held_out_environments
        answered = sum(name.endswith(".json") for name in storage.names(run.work(stage)))
        return answered, sum(task_set.count for task_set in sets), "tasks"
    state = None if stage == "demonstrations" else read_progress(run.work(command))
    return (0, 0, "") if state is None else (int(state["step"]), int(state["steps"]), "steps")

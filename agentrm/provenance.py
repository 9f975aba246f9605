"""Which data a run's tasks are of: official data, where an environment's project publishes some, or generated tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentrm.config.schema import Tasks
from agentrm.config.tasks import chosen_kinds, played_demonstrations, recorded_demonstrations
from agentrm.environments.official import OfficialEnvironment, identity
from agentrm.environments.registry import base_name, environment_class

_GENERATED, _RECORDED = "generated", "recorded"


def used_data(chosen: Tasks) -> dict[str, Any]:
    """By environment, of those with official data or recorded demonstrations: its `folder` here ("" where there is
    none), the identity of the `tasks` of each "kind.split", and by name why entries of the folder are `left_out`.
    """
    environments: dict[str, Any] = {}
    sets = (
        played_demonstrations(chosen),
        chosen.trees,
        chosen.held_in,
        chosen.held_out_kinds,
        chosen.held_out_environments,
    )
    for task_set in (member for group in sets for member in group):
        cls = environment_class(base_name(task_set.environment))
        if not issubclass(cls, OfficialEnvironment):
            continue
        folders = {name: folder for data in cls.official for name, folder in data.named().items()}
        named = ", ".join(f"{name}={folder}" for name, folder in folders.items())
        used = environments.setdefault(cls.name, {"folder": named, "tasks": {}, "left_out": {}})
        for kind in chosen_kinds(task_set):
            published = cls.published(kind, task_set.split)
            used["tasks"][f"{kind}.{task_set.split}"] = published.identity if published else _GENERATED
            used["left_out"] |= published.left_out if published else {}
    for recorded in recorded_demonstrations(chosen):
        used = environments.setdefault(base_name(recorded.environment), {"folder": "", "tasks": {}, "left_out": {}})
        used["tasks"][f"demonstrations of {recorded.file}"] = _RECORDED
    return environments


def other_data(before: Mapping[str, Any], now: Mapping[str, Any], same_sets: bool = False) -> str:
    """Which tasks are of other data than before, and of which; "" where none is. With the `same_sets` of tasks, a set
    that names no kinds has other ones where the data is another.
    """
    for name in before.keys() & now.keys():
        old, new = before[name]["tasks"], now[name]["tasks"]
        for tasks in old.keys() & new.keys():
            if old[tasks] != new[tasks]:
                return f"{name}.{tasks} was of data {old[tasks]} ({before[name]['folder'] or 'none'}), not {new[tasks]}"
        if same_sets and (changed := sorted(old.keys() ^ new.keys())):
            was, now_is = ("there", "gone") if changed[0] in old else ("not there", "there")
            return (
                f"{name}.{changed[0]} was {was} ({before[name]['folder'] or 'no official data'}), and is {now_is} now"
            )
    return ""


def describe_data(data: Mapping[str, Any]) -> str:
    """The data of a run in one line."""
    told = []
    for name, used in data.items():
        official = sorted(entry for entry in used["tasks"].items() if entry[1] not in (_GENERATED, _RECORDED))
        kinds = [identity(official)] if official else []
        kinds += [kind for kind in (_GENERATED, _RECORDED) if kind in used["tasks"].values()]
        left_out = f", {len(used['left_out'])} entries left out" if used["left_out"] else ""
        told.append(f"{name} {' and '.join(kinds)}" + (f" ({used['folder']}{left_out})" if official else ""))
    return "; ".join(told)

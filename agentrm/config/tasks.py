"""Which tasks each stage uses: the lists that task sets stand for, and what is held out of what."""

from __future__ import annotations

from collections.abc import Sequence

from agentrm.config.schema import Config, DemonstrationSet, Tasks, TaskSet
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.prompts import published_prompt
from agentrm.environments.registry import base_name, environment_class


def chosen_kinds(task_set: TaskSet) -> tuple[str, ...]:
    """The kinds of a set of tasks: those that it names, else all of one provenance, official where that is here."""
    return tuple(task_set.kinds) or environment_class(task_set.environment).usual_kinds(task_set.split)


def tasks(sets: Sequence[TaskSet], seed: int) -> list[Task]:
    """The tasks of some task sets: each kind's in turn, as long as it has more. Raises UserError for too few tasks."""
    return [
        environment_class(task_set.environment).task(kind, task_set.split, index, seed)
        for task_set in sets
        for kind, index in _places(task_set)
    ]


def _places(task_set: TaskSet) -> list[tuple[str, int]]:
    """The kind and index of each task of a set. Raises UserError for too few."""
    cls = environment_class(task_set.environment)
    for kind in chosen_kinds(task_set):
        cls.require(kind, task_set.split, task_set.official)
    sizes = {kind: cls.size(kind, task_set.split) for kind in chosen_kinds(task_set)}
    places = [
        (kind, index)
        for index in range(task_set.offset, min(max(sizes.values()), task_set.offset + task_set.count))
        for kind, size in sizes.items()
        if index < size
    ]
    if len(places) < task_set.count:
        raise UserError(
            f"{task_set.environment} has {len(places)} tasks of these kinds in {task_set.split} from index "
            f"{task_set.offset}, not {task_set.count}: lower count or offset, or add kinds"
        )
    return places[: task_set.count]


def check(config: Config) -> None:
    """Raise UserError for tasks that do not exist here, or have no published prompt where such are asked for, for
    held-out tasks that are learned from, and for labels of environments that have no trees.
    """
    chosen = config.tasks
    groups = {
        "demonstrations": played_demonstrations(chosen),
        "trees": chosen.trees,
        "held_in": chosen.held_in,
        "held_out_kinds": chosen.held_out_kinds,
        "held_out_environments": chosen.held_out_environments,
    }
    for given in (*recorded_demonstrations(chosen), *own_demonstrations(chosen)):
        environment_class(given.environment)
    for name, sets in groups.items():
        for number, task_set in enumerate(sets):
            cls = environment_class(task_set.environment)
            unknown = [kind for kind in task_set.kinds if kind not in cls.every_kind()]
            if unknown:
                raise UserError(
                    f"the key tasks.{name}[{number}].kinds holds {unknown[0]}: {task_set.environment} has "
                    f"{', '.join(cls.every_kind())}"
                )
            for kind in chosen_kinds(task_set) if config.model.prompts else ():
                published_prompt(config.model.prompts, task_set.environment, kind)
            _places(task_set)
    _check_held_out(chosen)
    trees = learned_sets(chosen)
    known = {name for learned in trees for name in kind_names(learned)} | {learned.environment for learned in trees}
    for name in config.train.labels.environments:
        # What was imported is of no environment here; its trees are looked at when they are read.
        if chosen.trees and name not in known and name.partition(".")[0] != config.episodes.environment:
            raise UserError(
                f"train.labels.environments holds {name}: tasks.trees has {', '.join(sorted(known))} to learn from"
            )


def played_demonstrations(chosen: Tasks) -> list[TaskSet]:
    """The sets of demonstrations that an oracle plays."""
    return [source for source in chosen.demonstrations if not (source.file or source.trees)]


def recorded_demonstrations(chosen: Tasks) -> list[DemonstrationSet]:
    """The sets of demonstrations that are read from files."""
    return [source for source in chosen.demonstrations if source.file]


def own_demonstrations(chosen: Tasks) -> list[DemonstrationSet]:
    """The sets of demonstrations that are the successes in a policy's trees."""
    return [source for source in chosen.demonstrations if source.trees]


def learned_sets(chosen: Tasks) -> list[TaskSet]:
    """The tasks whose trees the reward model learns from."""
    return [task_set for task_set in chosen.trees if task_set.split == "train"]


def kind_names(task_set: TaskSet) -> list[str]:
    """The kinds of a task set as ENVIRONMENT.KIND."""
    return [f"{task_set.environment}.{kind}" for kind in chosen_kinds(task_set)]


def _check_held_out(chosen: Tasks) -> None:
    """A perturbation is the same environment in another wording, so it is held out from nothing."""
    trained = {kind for learned in learned_sets(chosen) for kind in _kinds(learned)}
    for task_set in chosen.held_out_kinds:
        for kind in _kinds(task_set):
            if kind in trained:
                raise UserError(
                    f"tasks.held_out_kinds holds {task_set.environment} {kind[1]}, which tasks.trees trains on"
                )
    for task_set in chosen.held_out_environments:
        if base_name(task_set.environment) in {name for name, _ in trained}:
            raise UserError(f"tasks.held_out_environments holds {task_set.environment}, which tasks.trees trains on")


def _kinds(task_set: TaskSet) -> list[tuple[str, str]]:
    kinds = chosen_kinds(task_set)
    return [(base_name(task_set.environment), kind) for kind in kinds]

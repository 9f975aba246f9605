"""Official data: tasks that an environment's own project publishes, played where a variable names their folder.

An official task carries the identity of the data that it is of, in its id too: no machine plays another one in its
place.
"""

from __future__ import annotations

import logging
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.base import OFFICIAL, Environment
from agentrm.environments.screening import Entry
from agentrm.environments.support import GENERATED_SIZES, check_kind, digest

_NAMED = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """The official tasks of one kind in one split, in their order.

    `identity` tells them from any others; `left_out` says why what else the folder holds for them cannot be used.
    """

    entries: tuple[Any, ...]
    identity: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: tuple[Entry, ...], left_out: Mapping[str, str]) -> Published:
        """Files, which are told from others by their content and by what was read in them."""
        return cls(entries, identity([(each.content, each.value) for each in entries]), left_out)


@dataclass(frozen=True)
class OfficialData:
    """Where an environment's official data is, and which of its tasks are official there.

    `variable` names the folder; `covers(kind, split)` says whether tasks are taken from it, `read(folder, kind, split)`
    which (asked once in a process; raises UserError for a folder without them).
    """

    variable: str
    covers: Callable[[str, str], bool]
    read: Callable[[Path, str, str], Published]

    @property
    def folder(self) -> Path | None:
        """Where the data is; None where the user has named none."""
        named = os.environ.get(self.variable)
        return Path(named).expanduser().absolute() if named else None

    def find(self, kind: str, split: str) -> Published | None:
        """The official tasks of a kind in a split; None where its tasks are generated here."""
        folder = self.folder
        if folder is None or not self.covers(kind, split):
            return None
        if not folder.is_dir():
            raise UserError(f"{self.variable}={folder} is no folder on {platform.node()}: name one, or unset it")
        return _read_once(self.read, folder, kind, split)


@cache
def _read_once(read: Callable[[Path, str, str], Published], folder: Path, kind: str, split: str) -> Published:
    return read(folder, kind, split)


class OfficialEnvironment(Environment):
    """An environment with official data: where it is not, and beside it, tasks are generated, `sizes` by split."""

    official: ClassVar[OfficialData]
    sizes: ClassVar[Mapping[str, int]] = GENERATED_SIZES

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        check_kind(cls.name, cls.kinds, kind, split)
        found = cls.official.find(kind, split)
        return cls.sizes[split] if found is None else len(found.entries)

    @classmethod
    def data(cls, kind: str, split: str) -> str:
        found = cls.official.find(kind, split)
        return "" if found is None else found.identity

    @classmethod
    def size_of(cls, task: Task) -> int:
        check_kind(cls.name, cls.kinds, task.kind, task.split)
        return len(cls._published(task).entries) if task.data else cls.sizes[task.split]

    @classmethod
    def entry(cls, task: Task) -> Any:
        """What the data holds for a task that exists here; None for a generated one."""
        return cls._published(task).entries[task.index] if task.data else None

    @classmethod
    def _published(cls, task: Task) -> Published:
        """The data of an official task. Raises UserError where this machine has none, or another."""
        official, here = cls.official, platform.node()
        found = official.find(task.kind, task.split)
        if found is None:
            raise UserError(
                f"task {task.id} is of official data, which {here} lacks: let {official.variable} name its folder on "
                "every machine"
            )
        if found.identity != task.data:
            raise UserError(
                f"task {task.id} is of other official data than {official.variable}={official.folder} on {here} holds "
                f"({found.identity}): every machine needs the same files"
            )
        return found


def identity(content: object) -> str:
    """The name of official data, by all that decides which tasks it holds."""
    return f"{OFFICIAL}-{digest(content)[:8]}"


def announce(variable: str, folder: Path, used: int, left_out: Mapping[str, str]) -> None:
    """Say once, as it is read, what of the user's folder is left out, by reason."""
    if not left_out:
        return
    reasons = defaultdict(list)
    for name, reason in left_out.items():
        reasons[reason].append(name)
    told = [
        f"{len(found)} x {reason}: {', '.join(found[:_NAMED])}{', ...' if len(found) > _NAMED else ''}"
        for reason, found in sorted(reasons.items(), key=lambda each: -len(each[1]))
    ]
    _log.warning("%s=%s: %d entries are used, left out are %s", variable, folder, used, "; ".join(told))

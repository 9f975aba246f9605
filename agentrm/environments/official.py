"""Official data: tasks that an environment's own project publishes, played where a variable names their folder.

An official task carries the identity of the data that it is of, in its id too: no machine plays another one in its
place.
"""

from __future__ import annotations

import logging
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS, Task
from agentrm.environments.base import OFFICIAL, Environment
from agentrm.environments.screening import Entry
from agentrm.environments.support import GENERATED_SIZES, check_kind, digest

_NAMED = 5
_announced: set[tuple[Path, str, str]] = set()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """The official tasks of one kind in one split, in their order.

    `identity` tells them from any others; `left_out` says why what else the folder holds for them cannot be used.
    """

    entries: Sequence[Any]
    identity: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: tuple[Entry, ...], left_out: Mapping[str, str]) -> Published:
        """Files, which are told from others by their content and by what was read in them."""
        return cls(entries, identity([(entry.content, entry.value) for entry in entries]), left_out)


@dataclass(frozen=True)
class OfficialData:
    """Where some official data of an environment is, and which of its tasks are of it.

    `variable` names the folder; `covers(kind, split)` says whether tasks are taken from it, `read(folder, kind, split)`
    which (asked once in a process; raises UserError for a folder without them). `source` says where a user gets the
    folder. `beside` are other variables whose folders are read too.
    """

    variable: str
    covers: Callable[[str, str], bool]
    read: Callable[[Path, str, str], Published]
    source: str
    beside: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Where the data is; None where the user has named none."""
        return named_folder(self.variable)

    def named(self) -> dict[str, str]:
        """Its variables and those beside it that name a folder, with absolute paths."""
        folders = {variable: named_folder(variable) for variable in (self.variable, *self.beside)}
        return {variable: str(folder) for variable, folder in folders.items() if folder is not None}

    def find(self, kind: str, split: str) -> Published | None:
        """The official tasks of a kind in a split; None where they are not of this data, or it is not here."""
        if self.folder is None or not self.covers(kind, split):
            return None
        folders = [_existing(name) for name in (self.variable, *self.beside)]
        assert folders[0] is not None
        return _read_once(self.read, kind, split, folders[0], *folders[1:])


def named_folder(variable: str) -> Path | None:
    """The folder that a variable of the user's names; None where it names none."""
    named = os.environ.get(variable)
    return Path(named).expanduser().absolute() if named else None


def _existing(variable: str) -> Path | None:
    folder = named_folder(variable)
    if folder is not None and not folder.is_dir():
        raise UserError(f"{variable}={folder} is no folder on {platform.node()}: name one, or unset it")
    return folder


@cache
def _read_once(
    read: Callable[[Path, str, str], Published], kind: str, split: str, folder: Path, *_beside: Path | None
) -> Published:
    return read(folder, kind, split)


class OfficialEnvironment(Environment):
    """An environment with official data: where it is not, and beside it, tasks are generated, `sizes` by split.

    `published_kinds` are those that only official data has tasks of.
    """

    official: ClassVar[tuple[OfficialData, ...]]
    sizes: ClassVar[Mapping[str, int]] = GENERATED_SIZES

    @classmethod
    def published(cls, kind: str, split: str) -> Published | None:
        """The official tasks of a kind in a split; None where they are not here."""
        return next((published for data in cls.official if (published := data.find(kind, split))), None)

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        check_kind(cls.name, cls.every_kind(), kind, split)
        if published := cls.published(kind, split):
            return len(published.entries)
        return 0 if kind in cls.published_kinds else cls.generated_size(kind, split)

    @classmethod
    def generated_size(cls, kind: str, split: str) -> int:
        """The number of tasks that are no official ones, of a kind that has some."""
        return cls.sizes[split]

    @classmethod
    def data(cls, kind: str, split: str) -> str:
        published = cls.published(kind, split)
        return published.identity if published else ""

    @classmethod
    def usual_kinds(cls, split: str) -> tuple[str, ...]:
        for group in (cls.published_kinds, cls.kinds):
            if kinds := tuple(kind for kind in group if cls.data(kind, split)):
                return kinds
        return cls.kinds

    @classmethod
    def require(cls, kind: str, split: str, official: bool) -> None:
        if (official or kind in cls.published_kinds) and not cls.data(kind, split):
            raise UserError(cls._absent(kind, split))

    @classmethod
    def size_of(cls, task: Task) -> int:
        check_kind(cls.name, cls.every_kind(), task.kind, task.split)
        if task.data:
            return len(cls._of(task).entries)
        if task.kind in cls.published_kinds:
            raise UserError(cls._absent(task.kind, task.split))
        return cls.generated_size(task.kind, task.split)

    @classmethod
    def entry(cls, task: Task) -> Any:
        """What the data holds for a task that exists here; None for a generated one."""
        return cls._of(task).entries[task.index] if task.data else None

    @classmethod
    def _of(cls, task: Task) -> Published:
        """The data of an official task. Raises UserError where this machine has none, or another."""
        here, published = platform.node(), cls.published(task.kind, task.split)
        covering = [data for data in cls.official if data.covers(task.kind, task.split)]
        if published is None:
            names = " or ".join(data.variable for data in covering) or "a variable"
            raise UserError(
                f"task {task.id} is of official data, which {here} lacks: let {names} name its folder on every machine"
            )
        if published.identity != task.data:
            named = ", ".join(f"{data.variable}={data.folder}" for data in covering if data.folder)
            raise UserError(
                f"task {task.id} is of other official data than {named} on {here} holds ({published.identity}): every "
                "machine needs the same files"
            )
        return published

    @classmethod
    def _absent(cls, kind: str, split: str) -> str:
        """Why there are no official tasks of a kind in a split here, and how to get them."""
        ways = [data for data in cls.official if data.covers(kind, split)]
        if not ways:
            covered = [name for name in SPLITS if any(data.covers(kind, name) for data in cls.official)]
            return f"{cls.name} {kind} has no official tasks in {split}" + (
                f": ask for the split {' or '.join(covered)}" if covered else ""
            )
        how = "; or ".join(f"get {data.source}, and let {data.variable} name its folder" for data in ways)
        return f"the official tasks of {cls.name} {kind} in {split} are not here: {how}"


def identity(content: object) -> str:
    """The name of official data, by all that decides which tasks it holds."""
    return f"{OFFICIAL}-{digest(content)[:8]}"


def announce(variable: str, folder: Path, used: int, left_out: Mapping[str, str]) -> None:
    """Say as it is read what of the user's folder is left out, by reason; each entry once, whichever kinds it is of."""
    reasons = defaultdict(list)
    for name, reason in left_out.items():
        if (folder, name, reason) not in _announced:
            _announced.add((folder, name, reason))
            reasons[reason].append(name)
    if not reasons:
        return
    told = [
        f"{len(names)} x {reason}: {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
        for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1]))
    ]
    _log.warning("%s=%s: %d entries are used, left out are %s", variable, folder, used, "; ".join(told))

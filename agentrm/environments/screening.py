"""Reading strangers' files: each by a function in a process that may die, and only once as long as no file changes."""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

from platformdirs import user_cache_path

from agentrm.core.errors import EnvironmentFailure
from agentrm.environments.hosting.process import ChildProcess
from agentrm.environments.support import digest

DEADLINE_S = 60.0
"""For one file."""

# A change of what a reader refuses or returns needs another number: no cached answer may pass for its answer.
RULE = 1
# What a file is, what its reader returned or the reason, and a digest of the content or "".
Answer = tuple[str, Any, str]
KEPT, REFUSED = "kept", "refused"
ENDED = "ended"
"""It was the end of the process that read it."""
FAILED = "failed"
"""For a reason that does not lie in the file, so that another process tries again."""


@dataclass(frozen=True)
class Entry:
    """A file that can be used: what its reader returned, and a digest of its content."""

    path: Path
    value: Any
    content: str


def screen(
    folder: Path, files: Sequence[Path], reader: str, *versions: str
) -> tuple[tuple[Entry, ...], dict[str, str]]:
    """Those of a folder's files that can be used, in their order, and by its path in the folder why another cannot.

    `reader` is "module:function": it takes a path and returns what JSON can hold; a ValueError of its own is the
    reason. What it also depends on is named by `versions`.
    """
    stored = user_cache_path("agentrm") / "official" / f"{digest(RULE, reader, versions, str(folder))}.json"
    keys = {path: _key(path) for path in files}
    known = _load(stored)
    answers = {path: known[key] for path, key in keys.items() if key in known}

    def store() -> None:
        lasting = {keys[path]: answer for path, answer in answers.items() if answer[0] != FAILED}
        _store(stored, json.dumps(lasting))

    if unread := [path for path in files if path not in answers]:
        for path, answer in zip(unread, _read(unread, reader), strict=True):
            answers[path] = answer
            if answer[0] == ENDED:
                store()
        store()
    kept = [Entry(path, *answers[path][1:]) for path in files if answers[path][0] == KEPT]
    left_out = {str(path.relative_to(folder)): answers[path][1] for path in files if answers[path][0] != KEPT}
    return tuple(kept), left_out


def serve(connection: Connection, reader: str) -> None:
    """The child's loop: each path that comes is answered; None or the connection's end is the end."""
    # What an interpreter says before it gives up names no file.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    read = pkgutil.resolve_name(reader)
    connection.send(None)
    with suppress(EOFError, OSError):
        while (path := connection.recv()) is not None:
            connection.send(_answer(read, path))
        connection.send(None)


def _answer(read: Callable[[Path], Any], path: Path) -> Answer:
    try:
        # As it is after it was stored.
        value = json.loads(json.dumps(read(path)))
        return KEPT, value, hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return FAILED, f"cannot be read ({error.strerror})", ""
    except ValueError as error:
        return REFUSED, str(error), ""
    except Exception as error:
        return REFUSED, f"cannot be read ({error!r})", ""


def _read(files: Sequence[Path], reader: str) -> Iterator[Answer]:
    """The answers of the reader, from a new process after each file that was the end of one."""
    child: ChildProcess | None = None
    try:
        for path in files:
            child = child or ChildProcess("agentrm.environments.screening:serve", reader)
            try:
                child.send(path)
                yield child.receive(DEADLINE_S)
            except EnvironmentFailure as error:
                child = None
                if isinstance(error.__cause__, TimeoutError):
                    yield FAILED, f"not read within {DEADLINE_S:g} s", ""
                else:
                    yield ENDED, "ends the program that reads it", ""
    finally:
        if child is not None:
            child.close()


def _key(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return str(path)
    return f"{path} {status.st_size} {status.st_ctime_ns}"


def _load(path: Path) -> dict[str, Answer]:
    try:
        return {key: (state, value, content) for key, (state, value, content) in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _store(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all; without a cache the next process reads anew."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{uuid4().hex}")
        temporary.write_text(text)
        temporary.replace(path)

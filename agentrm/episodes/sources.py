"""What the user names, as files: files, directories, patterns, archives and compressed files, here or at a URI.

Nothing is unpacked to disk. Links and paths that lead out of an archive are refused.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import io
import json
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as fs

from agentrm import storage
from agentrm.core.errors import InputRefused, UserError
from agentrm.episodes.episode import Problem

RECORDS = (".jsonl", ".ndjson", ".json", ".parquet")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", *(f".tar{ending}" for ending in COMPRESSED))

DAMAGED = (EOFError, OSError, zlib.error, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, pa.ArrowException)
"""What reading a damaged file raises, a file cut short among them."""

_TRAJECTORY = "agent/trajectory.json"
_RESULT = "result.json"
_CONTINUES = re.compile(r"(.+)\.cont-\d+\.json")
_SHARD = re.compile(r"[-_.]?\d+-of-\d+")

Opened = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a file by its name. Raises InputRefused where it is not there or cannot be read."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that was found: its `path` in the filesystem of the `location`, the `source` that it belongs to by name,
    and what tells it from one that lay there before.
    """

    location: str
    path: str
    source: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Content:
    """Readable bytes under the `name` that messages show. `trial` is Harbor's `result.json` that belongs to them;
    `beside` opens what lies in the same folder.
    """

    name: str
    stream: BinaryIO
    beside: Opened
    trial: Mapping[str, Any] | None = field(default=None)


def found(sources: Sequence[str]) -> list[File]:
    """The files of all sources, in their order. Raises UserError for a source that is not there or holds nothing."""
    files: list[File] = []
    for source in sources:
        some = _files(source)
        if not some:
            endings = ", ".join(RECORDS + ARCHIVES)
            raise UserError(f"{source} holds no episodes: their files end in {endings}, also compressed")
        files += some
    return list({file.location: file for file in files}.values())


def contents(file: File) -> Iterator[Content | Problem]:
    """What a file holds: itself without its compression, or the members of an archive. Raises one of DAMAGED."""
    files, path = storage.filesystem(file.location)
    lower = path.lower()
    if lower.endswith(ARCHIVES) and not lower.endswith(".zip"):
        yield from _tarred(files, path, file)
        return
    with _opened(files, path) as raw:
        if lower.endswith(".zip"):
            yield from _zipped(raw, file)
        else:
            folder = path.rpartition("/")[0]
            beside = partial(_in, folder, partial(_opened, files))
            yield Content(file.location, _plain(raw, lower), beside, _trial(files, path))


def _files(source: str) -> list[File]:
    files, path = storage.filesystem(source)
    with storage.reaching(source):
        info = files.get_file_info(path)
        if info.type == fs.FileType.File:
            return [_file(source, info, _source_name(source))]
        pattern = None
        if info.type == fs.FileType.NotFound:
            if not re.search(r"[*?\[]", path):
                raise UserError(f"there is no {source}: name files or directories that hold episodes")
            pattern, path = path, re.split(r"/[^/]*[*?\[]", path, maxsplit=1)[0]
        listed = files.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    name = _source_name(path)
    chosen = [file for file in listed if file.type == fs.FileType.File and _readable(file.path)]
    if pattern is not None:
        chosen = [file for file in chosen if fnmatch.fnmatchcase(file.path, pattern)]
    elif trials := [file for file in chosen if file.path.endswith(f"/{_TRAJECTORY}")]:
        # What else lies in Harbor's directories are configurations and logs.
        chosen = trials
    paths = {file.path for file in chosen}
    chosen = [file for file in chosen if _continued(file.path) not in paths]
    # A URI keeps its scheme and host.
    head = source[: len(source) - len(storage.filesystem(source)[1])] if storage.is_uri(source) else ""
    return [_file(f"{head}{file.path}", file, name) for file in sorted(chosen, key=lambda file: file.path)]


def _file(location: str, info: fs.FileInfo, source: str) -> File:
    return File(location, info.path, source, info.size or 0, info.mtime_ns or 0)


def _readable(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return not name.startswith(".") and name.endswith((*RECORDS, *ARCHIVES))


def _continued(path: str) -> str:
    """The trajectory that Harbor continued in a file, by its name; "" for what is none of its kind."""
    match = _CONTINUES.fullmatch(path)
    return f"{match[1]}.json" if match else ""


def _source_name(location: str) -> str:
    """What a source is called: its name without endings and the numbers of shards."""
    name = storage.name(location)
    for ending in (*COMPRESSED, *ARCHIVES, *RECORDS):
        name = name.removesuffix(ending)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", _SHARD.sub("", name)).strip("_")
    return name or "episodes"


def _opened(files: fs.FileSystem, path: str) -> AbstractContextManager[BinaryIO]:
    return closing(cast(BinaryIO, files.open_input_file(path)))


def _plain(stream: BinaryIO, name: str) -> BinaryIO:
    """A stream without the compression that its name ends in."""
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if name.endswith(".bz2"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    if name.endswith(".xz"):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if name.endswith(".zst"):
        stream = cast(BinaryIO, pa.CompressedInputStream(stream, "zstd"))
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream)))


def _trial(files: fs.FileSystem, path: str) -> Mapping[str, Any] | None:
    """The result of the trial that a trajectory is of."""
    if not path.endswith(f"/{_TRAJECTORY}"):
        return None
    try:
        with files.open_input_stream(f"{path.removesuffix(_TRAJECTORY)}{_RESULT}") as stream:
            return _object(stream.read())
    except FileNotFoundError:
        return None


def _in(folder: str, opened: Opened, name: str) -> AbstractContextManager[BinaryIO]:
    """An `Opened` of one folder, over that of a filesystem or an archive."""
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        raise InputRefused(f"{name!r} does not lie in the same folder")
    try:
        return opened(f"{folder}/{name}" if folder else name)
    except (FileNotFoundError, KeyError):
        raise InputRefused(f"there is no {name} in the same folder") from None


def _object(given: bytes) -> Mapping[str, Any] | None:
    try:
        result = json.loads(given)
    except ValueError:
        return None
    return result if isinstance(result, Mapping) else None


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an archive: `refused` says why it is not read."""

    name: str
    stream: BinaryIO | None
    refused: str = ""


def _zipped(raw: BinaryIO, file: File) -> Iterator[Content | Problem]:
    with zipfile.ZipFile(raw) as archive:

        def members() -> Iterator[_Member]:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                refused = _refused(info.filename, stat.S_ISLNK(info.external_attr >> 16))
                yield _Member(info.filename, None if refused else cast(BinaryIO, archive.open(info)), refused)

        yield from _members(members, file, lambda name: closing(cast(BinaryIO, archive.open(name))))


def _tarred(files: fs.FileSystem, path: str, file: File) -> Iterator[Content | Problem]:
    endings = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}
    name = next((end for short, end in endings.items() if path.lower().endswith(short)), path.lower())

    def members() -> Iterator[_Member]:
        # As a stream: going back in a compressed file means to begin again.
        with _opened(files, path) as raw, tarfile.open(fileobj=_plain(raw, name), mode="r|") as archive:
            for info in archive:
                if info.isdir():
                    continue
                refused = _refused(info.name, not info.isreg())
                yield _Member(info.name, None if refused else cast(BinaryIO, archive.extractfile(info)), refused)

    yield from _members(members, file, _unreadable)


def _unreadable(name: str) -> AbstractContextManager[BinaryIO]:
    """A tar archive is read in its order alone."""
    raise InputRefused(f"{name} cannot be read beside it in a tar archive: unpack it, or make a .zip of it")


def _looked_through(members: Iterable[_Member]) -> tuple[dict[str, Mapping[str, Any]], set[str]]:
    """The results of Harbor's trials in an archive, by their directory, and the names of all members."""
    results: dict[str, Mapping[str, Any]] = {}
    names = set[str]()
    for member in members:
        names.add(member.name)
        folder, _, name = member.name.rpartition("/")
        if name == _RESULT and member.stream and (result := _object(member.stream.read())):
            kept = ("task_name", "trial_name", "verifier_result")
            results[folder] = {key: result[key] for key in kept if key in result}
    return results, names


def _members(
    members: Callable[[], Iterable[_Member]],
    file: File,
    opened: Opened,
) -> Iterator[Content | Problem]:
    """What the members hold; `opened` opens one by its name. Raises one of DAMAGED."""
    results, names = _looked_through(members())
    for member in members():
        name = f"{file.location}/{member.name}"
        if member.refused:
            yield Problem(name, 0, member.refused)
            continue
        trial = member.name.endswith(_TRAJECTORY)
        if member.stream is None or not _readable(member.name) or (results and not trial):
            continue
        if _continued(member.name) in names:
            continue
        if member.name.lower().endswith((*ARCHIVES, ".parquet")):
            yield Problem(name, 0, "archives and Parquet within an archive are not read: unpack it")
            continue
        folder = member.name.rpartition("/")[0]
        beside = partial(_in, folder, opened)
        trial_folder = member.name.removesuffix(_TRAJECTORY).rstrip("/")
        stream = _plain(member.stream, member.name.lower())
        yield Content(name, stream, beside, results.get(trial_folder) if trial else None)


def _refused(name: str, other: bool) -> str:
    """Why a member of an archive is not read, "" where it is."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return "its path leads out of the archive, so it is not read"
    return "it is a link or no plain file, so it is not read" if other else ""

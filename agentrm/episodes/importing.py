"""An import in two passes that hold one task at a time: files are spooled into parts by task, parts become trees.

    spool/<batch>/<environment>/<split>/<number>   the episodes of a batch of files that belong to one part
    trees/                                         a dataset of trees, one file per part

A batch that was spooled and a part that was built are not done again; each is written under another name and moved.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import groupby
from typing import Any, BinaryIO, cast

import pyarrow.fs as fs

from agentrm import storage
from agentrm.config.schema import Episodes
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore, part
from agentrm.episodes.episode import Episode, Problem
from agentrm.episodes.grouping import task, trees
from agentrm.episodes.reading import read
from agentrm.episodes.sources import COMPRESSED, File

VERSION = 1
SHOWN = 100
"""How many problems are kept in words."""

_BATCH = 64 * 2**20
_PART = 128 * 2**20
_MOST_PARTS = 128
_RATIO = 6
_BUFFER = 2**18


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that are spooled together; `key` tells them and how they are read from others."""

    files: tuple[File, ...]
    key: str
    parts: int


@dataclass(frozen=True, slots=True)
class Part:
    """The episodes of one environment and split whose tasks belong to part `number`."""

    environment: str
    split: str
    number: int

    @property
    def path(self) -> str:
        """Where it lies in the spool of a batch."""
        return f"{self.environment}/{self.split}/{self.number}"


def batches(files: Sequence[File], settings: Episodes) -> list[Batch]:
    """Files in batches of about the same size, a large file alone."""
    total = sum(_bytes(file) for file in files)
    parts = max(1, min(_MOST_PARTS, total // _PART))
    sums, size = [], 0
    for file in files:
        sums.append(size // _BATCH)
        size += _bytes(file)
    grouped = groupby(zip(sums, files, strict=True), key=lambda pair: pair[0])
    groups = [tuple(file for _, file in group) for _, group in grouped]
    return [Batch(group, _digest([VERSION, parts, *_identity(group), _options(settings)]), parts) for group in groups]


def identity(files: Sequence[File]) -> str:
    """What tells the files of an import from others."""
    return _digest(_identity(files))


def spool(batch: Batch, settings: Episodes, folder: storage.Location) -> dict[str, Any]:
    """Read the files of a batch and sort their episodes by part; returns the counts: `episodes`, `problems` and the
    first of these in words. Raises UserError for a problem when the settings are strict.
    """
    target = f"{folder}/spool/{batch.key}"
    if storage.finished(target):
        counts = json.loads(storage.read_text(f"{target}/counts.json") or "{}")
        if settings.strict and counts["problems"]:
            raise UserError(counts["shown"][0])
        return counts
    counts = {"episodes": 0, "problems": 0, "shown": []}
    with storage.writing(target) as output, ExitStack() as stack:
        opened: dict[Part, BinaryIO] = {}
        for episode in read(batch.files, settings):
            if isinstance(episode, Problem):
                _note(counts, episode, settings.strict)
                continue
            its_task = task(episode, settings.environment)
            where = Part(its_task.environment, its_task.split, part(its_task.id, batch.parts))
            if where not in opened:
                path = output / where.path
                path.parent.mkdir(parents=True, exist_ok=True)
                opened[where] = stack.enter_context(path.open("wb"))
            opened[where].write(_line(its_task, episode))
            counts["episodes"] += 1
        (output / "counts.json").write_text(json.dumps(counts))
    return counts


def parts(read: Sequence[Batch], folder: storage.Location) -> list[Part]:
    """The parts that hold an episode of some spooled batches, in their order."""
    names = set()
    for batch in read:
        files, root = storage.filesystem(f"{folder}/spool/{batch.key}")
        for info in files.get_file_info(fs.FileSelector(root, recursive=True)):
            environment, _, rest = info.path.removeprefix(f"{root}/").partition("/")
            split, _, number = rest.partition("/")
            if number and info.type == fs.FileType.File:
                names.add((environment, split, int(number)))
    return [Part(*name) for name in sorted(names)]


def build(which: Part, read: Sequence[Batch], folder: storage.Location) -> dict[str, Any]:
    """The trees of a part out of all spooled batches; returns the counts: `tasks`, `trees`, `states`, `episodes`,
    `problems` and the first of these in words.
    """
    told = f"{folder}/parts/{which.path}.json"
    if (text := storage.read_text(told)) is not None:
        return json.loads(text)
    counts: dict[str, Any] = {"tasks": 0, "trees": 0, "states": 0, "episodes": 0, "problems": 0, "shown": []}
    store = TreeStore(f"{folder}/trees")
    with ExitStack() as stack:
        streams = [stack.enter_context(stream) for stream in _spooled(which, read, folder)]
        made = _trees(streams, counts)
        store.write_part(made, which.environment, which.split, which.number, read[0].parts)
    storage.write_text(told, json.dumps(counts))
    return counts


def _trees(streams: Sequence[io.BufferedReader], counts: dict[str, Any]) -> Iterator[Tree]:
    """The trees of spooled episodes in the order of their tasks, of which one at a time is held."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    for number, stream in enumerate(streams):
        offset = 0
        while line := stream.readline():
            places.setdefault(line.partition(b"\t")[0], []).append((number, offset))
            offset += len(line)
    for key in sorted(places):
        spooled = []
        for number, offset in places[key]:
            streams[number].seek(offset)
            spooled.append(_parsed(streams[number].readline()))
        made, problems = trees(spooled[0][0], [episode for _, episode in spooled])
        for problem in problems:
            _note(counts, problem, strict=False)
        counts["tasks"] += 1
        counts["trees"] += len(made)
        counts["states"] += sum(len(tree.nodes) for tree in made)
        counts["episodes"] += len(spooled) - len(problems)
        yield from made


def _note(counts: dict[str, Any], problem: Problem, strict: bool) -> None:
    if strict:
        raise UserError(str(problem))
    counts["problems"] += 1
    if len(counts["shown"]) < SHOWN:
        counts["shown"].append(str(problem))


def _line(its_task: Task, episode: Episode) -> bytes:
    fields = {name: getattr(episode, name) for name in Episode.__slots__}
    given = json.dumps([asdict(its_task), fields], ensure_ascii=False, separators=(",", ":"))
    return f"{its_task.id}\t{given}\n".encode()


def _parsed(line: bytes) -> tuple[Task, Episode]:
    its_task, fields = json.loads(line.partition(b"\t")[2])
    return Task(**its_task), Episode(**fields)


def _spooled(which: Part, read: Sequence[Batch], folder: storage.Location) -> Iterator[io.BufferedReader]:
    for batch in read:
        path = f"{folder}/spool/{batch.key}/{which.path}"
        files, place = storage.filesystem(path)
        if files.get_file_info(place).type == fs.FileType.File:
            yield io.BufferedReader(cast(io.RawIOBase, files.open_input_file(place)), _BUFFER)


def _bytes(file: File) -> int:
    """About how much a file holds without its compression."""
    packed = file.path.lower().endswith((*COMPRESSED, ".tgz", ".tbz2", ".txz", ".zip", ".parquet"))
    return file.size * (_RATIO if packed else 1)


def _identity(files: Sequence[File]) -> list[Any]:
    return [[file.location, file.source, file.size, file.mtime_ns] for file in files]


def _options(settings: Episodes) -> dict[str, Any]:
    return asdict(replace(settings, strict=False))


def _digest(given: Any) -> str:
    return blake2b(json.dumps(given).encode(), digest_size=16).hexdigest()

"""The file of values that `agentrm score` writes: a row per step of each episode, Parquet or JSON lines.

Parts lie beside it until all is scored. A part is there whole or not at all, and so is the file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agentrm.core.errors import UserError
from agentrm.core.messages import runs
from agentrm.episodes.episode import Episode
from agentrm.evaluation.rewards.best_of_n import Attempt
from agentrm.evaluation.rewards.values import Values, lengths

SCHEMA = pa.schema(
    {
        "source": pa.string(),
        "file": pa.string(),
        "line": pa.int64(),
        "id": pa.string(),
        "task": pa.string(),
        "model": pa.string(),
        "side": pa.string(),
        "step": pa.int32(),
        "last": pa.bool_(),
        "value": pa.float64(),
        "outcome": pa.float64(),
        "characters": pa.int64(),
        "logprob": pa.float64(),
        "scored_by": pa.string(),
        "key": pa.string(),
    }
)
"""`last` marks the row whose value is that of the whole episode; `key` tells the episode and what it says."""

_ROWS = 65536
_WRITING = ".writing"


def key(episode: Episode) -> str:
    """What tells an episode from others, and from itself as it was before a change."""
    parts = [getattr(episode, name) for name in ("file", "line", "id", "side", "task", "source", "model", "outcome")]
    given = json.dumps([*parts, list(episode.messages), list(episode.tools)], sort_keys=True, ensure_ascii=False)
    return blake2b(given.encode(), digest_size=16).hexdigest()


def rows(episode: Episode, values: Values, scored_by: str) -> list[dict[str, Any]]:
    """The rows of an episode."""
    told = {name: getattr(episode, name) for name in ("source", "file", "line", "id", "task", "model", "side")}
    told |= {"outcome": episode.outcome, "scored_by": scored_by, "key": key(episode)}
    likelihoods = _likelihoods(episode)
    whole = len(values.steps) - 1
    return [
        told | {"step": step, "last": step == whole, "value": value, "characters": length, "logprob": logprob}
        for step, (value, length, logprob) in enumerate(
            zip(values.steps, lengths(episode.messages), likelihoods, strict=True)
        )
    ]


class ValueTable:
    """The values of one reward model in the file at `path`. Raises UserError for a URI, another suffix than `.parquet`
    and `.jsonl`, and for a file that holds something else, or another model's values.
    """

    def __init__(self, path: Path, scored_by: str) -> None:
        _check_path(path)
        self.path = path
        self._parts = path.with_name(f".{path.name}.parts")
        self._scored_by = scored_by
        self._next = max((int(part.stem) + 1 for part in self._part_files()), default=0)

    def done(self) -> set[str]:
        """The keys of the episodes that have values."""
        keys = set()
        for piece in self._pieces():
            others = set(piece["scored_by"].unique().to_pylist()) - {self._scored_by}
            if others:
                raise UserError(
                    f"{self.path} holds values of {min(others)}, not of {self._scored_by}: name another file"
                )
            keys.update(piece["key"].unique().to_pylist())
        return keys

    def add(self, some: Sequence[dict[str, Any]]) -> None:
        """Keep the rows of some episodes, as a part."""
        self._parts.mkdir(parents=True, exist_ok=True)
        part = self._parts / f"{self._next:08d}.parquet"
        written = part.with_suffix(_WRITING)
        pq.write_table(pa.Table.from_pylist(list(some), SCHEMA), written)
        written.rename(part)
        self._next += 1

    def commit(self, files: set[str], keys: set[str]) -> None:
        """Make the file of what it held and all parts; of what lay in `files` it keeps the episodes in `keys` alone."""
        if not (self._next or self.path.exists()):
            return
        written = self.path.with_name(f".{self.path.name}{_WRITING}")
        with _writer(written, self.path.suffix) as write:
            for piece in self._pieces():
                other = pc.invert(pc.is_in(piece["file"], pa.array(sorted(files), pa.string())))
                write(piece.filter(pc.or_(other, pc.is_in(piece["key"], pa.array(sorted(keys), pa.string())))))
        written.rename(self.path)
        shutil.rmtree(self._parts, ignore_errors=True)

    def attempts(self) -> list[list[Attempt]]:
        """The episodes that have an outcome, by task."""
        tasks: dict[tuple[str, str], list[Attempt]] = {}
        for piece in self._pieces():
            for row in piece.filter(pc.and_(piece["last"], pc.is_valid(piece["outcome"]))).to_pylist():
                value = -float("inf") if row["value"] is None else row["value"]
                attempt = Attempt(row["outcome"], value, row["characters"], row["logprob"])
                tasks.setdefault((row["source"], row["task"]), []).append(attempt)
        return list(tasks.values())

    def _part_files(self) -> list[Path]:
        return sorted(self._parts.glob("*.parquet"))

    def _pieces(self) -> Iterator[pa.Table]:
        held = [self.path] if self.path.exists() else []
        for file in (*held, *self._part_files()):
            yield from _pieces(file)


def check(path: Path) -> None:
    """Raise UserError where no file of values is."""
    _check_path(path)
    if not path.is_file():
        raise UserError(f"there is no {path}: name a file that `agentrm score` wrote with --to")
    next(_pieces(path), None)


def episodes_at(path: Path, lines: Collection[int], ids: Collection[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows, step by step, of each episode in a file of values that begins at one of the `lines` of its file, or has
    one of the `ids`. Raises UserError.
    """
    numbers, names = pa.array(sorted(lines), pa.int64()), pa.array(sorted(ids), pa.string())

    def rows() -> Iterator[dict[str, Any]]:
        for piece in _pieces(path):
            wanted = pc.or_(pc.is_in(piece["line"], numbers), pc.is_in(piece["id"], names))
            yield from piece.filter(wanted).to_pylist()

    for _, same in groupby(rows(), key=lambda row: row["key"]):
        yield list(same)


def _check_path(path: Path) -> None:
    if path.parts and path.parts[0].endswith(":"):
        raise UserError(f"{path} is a URI: values lie in a file that this machine mounts")
    if path.suffix not in (".parquet", ".jsonl"):
        raise UserError(f"{path} must end in .parquet or .jsonl: its name says how values are written")


def _pieces(file: Path) -> Iterator[pa.Table]:
    try:
        yield from _read(file)
    except (pa.ArrowException, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        told = str(error).splitlines()[0]
        raise UserError(f"{file} holds no values that `agentrm score` wrote: {told}") from error


def _read(file: Path) -> Iterator[pa.Table]:
    if file.suffix == ".jsonl":
        with file.open() as lines:
            while some := [json.loads(line) for line in islice(lines, _ROWS)]:
                yield pa.Table.from_pylist(some, SCHEMA)
        return
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(_ROWS, columns=SCHEMA.names):
            yield pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)


@contextmanager
def _writer(path: Path, suffix: str) -> Iterator[Callable[[pa.Table], None]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".parquet":
        with pq.ParquetWriter(path, SCHEMA) as parquet:
            yield parquet.write_table
        return
    with path.open("w") as lines:
        yield lambda piece: lines.writelines(_json_lines(piece.to_pylist()))


def _json_lines(some: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (f"{json.dumps(row, ensure_ascii=False)}\n" for row in some)


def _likelihoods(episode: Episode) -> list[float | None]:
    """The sums of the log-probabilities of the agent's turns up to each, where what was exported has them."""
    count = len(runs(episode.messages)[1]) + 1
    nodes = episode.exact["nodes"] if episode.exact is not None else []
    if not any(node["tokens"] for node in nodes):
        return [None] * count
    sums, total = [], 0.0
    for node in nodes:
        total += node["logprob"]
        sums.append(total)
    return sums

"""The tree dataset: Parquet, one row per node, partitioned by environment and split; one file per tree that grows, one
file per part of those that are imported.

A file is written under a temporary name and moved, so a killed run leaves no half tree; a re-run skips what is there.
Any reader of Parquet reads the directory as one table.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
import pyarrow.parquet as pq

from agentrm import storage
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.core.tree import Node, Origin, Tree, tree_id
from agentrm.data import messages

VERSION = "5"

_TASK = [
    ("environment", pa.string()),
    ("kind", pa.string()),
    ("split", pa.string()),
    ("index", pa.int32()),
    ("seed", pa.int32()),
    ("data", pa.string()),
]
_ORIGINS = pa.list_(
    pa.struct(
        [
            ("file", pa.string()),
            ("line", pa.int64()),
            ("id", pa.string()),
            ("model", pa.string()),
            ("outcome", pa.float64()),
            ("pair", pa.string()),
            ("side", pa.string()),
        ]
    )
)
_NODE = [
    ("parent", pa.int32()),
    ("depth", pa.int32()),
    ("action", pa.string()),
    ("thought", pa.string()),
    ("text", pa.string()),
    ("observation", pa.string()),
    ("logprob", pa.float64()),
    ("tokens", pa.int32()),
    ("malformed", pa.bool_()),
    ("removed", pa.string()),
    ("reasoning", pa.string()),
    ("calls", messages.CALLS),
    ("answers", messages.MESSAGES),
    ("visits", pa.int32()),
    ("value", pa.float64()),
    ("outcome", pa.float64()),
    ("progress", pa.float64()),
    ("estimate", pa.float64()),
    ("terminal", pa.bool_()),
    ("merged", pa.int32()),
    ("label", pa.float64()),
    ("reward", pa.float64()),
    ("origins", _ORIGINS),
]
_TREE = [
    ("number", pa.int32()),
    ("iterations", pa.int32()),
    ("ended_by", pa.string()),
    ("policy_tokens", pa.int64()),
    ("environment_steps", pa.int64()),
    ("environment_errors", pa.int32()),
    ("engine_errors", pa.int32()),
    ("seconds", pa.float64()),
    ("tools", messages.TOOLS),
]
SCHEMA = pa.schema(
    [("tree", pa.string()), *_TASK, ("node", pa.int32()), *_NODE, *_TREE], metadata={"agentrm.trees": VERSION}
)


_PART = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")
_ROWS = 8192
_CHARACTERS = 2**25


def to_table(tree: Tree) -> pa.Table:
    """The rows of one tree: the root, and the nodes that a return was backed up through."""
    return pa.Table.from_pylist(_rows(tree), schema=SCHEMA)


def _rows(tree: Tree) -> list[dict[str, Any]]:
    kept = [index for index, node in enumerate(tree.nodes) if node.visits or not index]
    number = {index: position for position, index in enumerate(kept)}
    shared = {"tree": tree.id, **asdict(tree.task), **{name: getattr(tree, name) for name, _ in _TREE}}
    shared["tools"] = messages.tools_to_text(tree.tools)
    rows = []
    for index in kept:
        node = tree.nodes[index]
        row = {name: getattr(node, name) for name, _ in _NODE}
        row["parent"] = number.get(node.parent, -1)
        row["calls"] = messages.calls_to_rows(node.calls)
        row["answers"] = None if node.answers is None else messages.to_rows(node.answers)
        row["origins"] = [asdict(origin) for origin in node.origins]
        rows.append(shared | row | {"node": number[index]})
    return rows


def from_table(table: pa.Table) -> Tree:
    """The tree that `to_table` wrote."""
    rows = table.to_pylist()
    nodes = [_node(row) for row in rows]
    for index, node in enumerate(nodes[1:], start=1):
        nodes[node.parent].children.append(index)
    first = rows[0]
    task = Task(**{name: first[name] for name, _ in _TASK})
    whole = {name: first[name] for name, _ in _TREE}
    return Tree(task, nodes, **whole | {"tools": messages.tools_from_text(first["tools"])})


def _node(row: dict[str, Any]) -> Node:
    fields = {name: row[name] for name, _ in _NODE}
    fields["calls"] = messages.calls_from_rows(row["calls"])
    if row["answers"] is not None:
        fields["answers"] = tuple(messages.from_rows(row["answers"]))
    fields["origins"] = tuple(Origin(**origin) for origin in row["origins"])
    return Node(**fields)


def part(task: str, parts: int) -> int:
    """Which of so many parts the trees of a task, named by its id, lie in."""
    return int.from_bytes(blake2b(task.encode(), digest_size=8, person=b"part").digest(), "big") % parts


def _name(path: str) -> str:
    return path.rpartition("/")[2]


class TreeStore:
    """A directory of trees: `<environment>/<split>/<tree id>.parquet` for each that grew, and for imported ones
    `<environment>/<split>/part-<number>-of-<count>.parquet`, where `part` says which holds a task; every file holds all
    columns.

    `root` is a path, or a URI such as `s3://bucket/trees`. Raises UserError for one that cannot be reached.
    """

    def __init__(self, root: storage.Location) -> None:
        self.root = str(root)
        self._files, self._folder = storage.filesystem(self.root)

    def write(self, tree: Tree) -> None:
        """Commit one tree; one of the same id is replaced whole."""
        with self._writing(tree.task.environment, tree.task.split, f"{tree.id}.parquet") as temporary:
            pq.write_table(to_table(tree), temporary, filesystem=self._files)

    def write_part(self, trees: Iterable[Tree], environment: str, split: str, number: int, parts: int) -> None:
        """Commit the trees of a part, all of one environment and split and in the order of their ids; a part of the
        same number is replaced whole. Trees are taken one by one, and few rows are held.
        """
        with (
            self._writing(environment, split, part_name(number, parts)) as temporary,
            pq.ParquetWriter(temporary, SCHEMA, filesystem=self._files, compression="zstd") as writer,
        ):
            rows: list[dict[str, Any]] = []
            size = 0
            for tree in trees:
                added = _rows(tree)
                rows += added
                size += sum(len(row["text"]) + len(row["observation"]) for row in added)
                if len(rows) >= _ROWS or size >= _CHARACTERS:
                    writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                    rows, size = [], 0
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))

    @contextmanager
    def _writing(self, environment: str, split: str, name: str) -> Iterator[str]:
        """A temporary path that becomes the file of this name when the block ends without an error."""
        folder = f"{self._folder}/{environment}/{split}"
        self._files.create_dir(folder, recursive=True)
        temporary = f"{folder}/.{name.removesuffix('.parquet')}.{socket.gethostname()}.{os.getpid()}.writing"
        yield temporary
        self._files.move(temporary, f"{folder}/{name}")

    def finished(self) -> set[str]:
        """Ids of the trees that are there."""
        ids = set()
        for path in self._paths():
            if _PART.fullmatch(_name(path)):
                for table in self._groups(path, ["tree"]):
                    ids.update(table["tree"].unique().to_pylist())
            else:
                ids.add(_name(path).removesuffix(".parquet"))
        return ids

    def missing(self, todo: Iterable[tuple[Task, Sequence[int]]]) -> list[tuple[Task, Sequence[int]]]:
        """The tasks that lack trees of the numbers beside them, with those numbers."""
        there = self.finished()
        lacking = (
            (task, [number for number in numbers if tree_id(task, number) not in there]) for task, numbers in todo
        )
        return [(task, numbers) for task, numbers in lacking if numbers]

    def parts(self) -> set[str]:
        """The parts that are there, as `<environment>/<split>/<name>`."""
        paths = (path for path in self._paths() if _PART.fullmatch(_name(path)))
        return {path.removeprefix(f"{self._folder}/") for path in paths}

    def trees(self) -> Iterator[Tree]:
        """All trees that hold an outcome, in the order of their paths.

        A tree whose budget ended before any episode did holds none. Raises UserError for a file that is no tree of
        this version.
        """
        for table in self.tables():
            tree = from_table(table)
            if tree.nodes[0].visits:
                yield tree

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of each tree, of some `columns` or of all; raises as `trees` does."""
        for path in self._paths():
            if not _PART.fullmatch(_name(path)):
                yield pa.concat_tables(self._groups(path, columns))
                continue
            for table in self._groups(path, _with(columns, "node")):
                starts = [*np.flatnonzero(table["node"].to_numpy() == 0).tolist(), len(table)]
                shown = table if columns is None else table.select(list(columns))
                yield from (shown.slice(start, end - start) for start, end in pairwise(starts))

    def table(self, tree: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of the tree with this id. Raises UserError when it is not there, and as `trees` does."""
        for path in self._paths():
            if match := _PART.fullmatch(_name(path)):
                if part(tree.partition("@")[0], int(match[2])) != int(match[1]):
                    continue
                for table in self._groups(path, _with(columns, "tree"), tree):
                    rows = table.filter(pc.equal(table["tree"], tree))
                    if rows.num_rows:
                        return rows if columns is None else rows.select(list(columns))
            elif _name(path) == f"{tree}.parquet":
                return pa.concat_tables(self._groups(path, columns))
        raise UserError(f"there is no tree {tree} in {self.root}")

    def _groups(self, path: str, columns: Sequence[str] | None, tree: str | None = None) -> Iterator[pa.Table]:
        """A file's rows by row groups, which hold whole trees; with `tree`, those alone that may hold it."""
        try:
            with pq.ParquetFile(path, filesystem=self._files) as file:
                version = (file.schema_arrow.metadata or {}).get(b"agentrm.trees", b"none").decode()
                if version != VERSION:
                    told = f"{path} has schema version {version}, not {VERSION}"
                    raise UserError(f"{told}: delete it and run `agentrm trees` again")
                for number in range(file.num_row_groups):
                    if tree is None or _may_hold(file.metadata.row_group(number), tree):
                        yield file.read_row_group(number, columns=columns)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise UserError(f"{path} is not readable as a tree: delete it and run `agentrm trees` again") from error

    def _paths(self) -> list[str]:
        selector = fs.FileSelector(self._folder, allow_not_found=True, recursive=True)
        files = (info for info in self._files.get_file_info(selector) if info.type == fs.FileType.File)
        return sorted(info.path for info in files if info.extension == "parquet" and not info.base_name.startswith("."))


def part_name(number: int, parts: int) -> str:
    """The file of a part."""
    return f"part-{number:05}-of-{parts:05}.parquet"


def _with(columns: Sequence[str] | None, name: str) -> list[str] | None:
    return None if columns is None else list(dict.fromkeys([*columns, name]))


def _may_hold(group: pq.RowGroupMetaData, tree: str) -> bool:
    statistics = group.column(SCHEMA.get_field_index("tree")).statistics
    return statistics is None or not statistics.has_min_max or statistics.min <= tree <= statistics.max

"""The tree dataset: Parquet, one row per node, one file per tree, partitioned by environment and split.

A tree is written under a temporary name and moved, so a killed run leaves no half tree; a re-run skips what is there.
Any reader of Parquet reads the directory as one table.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from agentrm import storage
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data import messages

VERSION = "4"

_TASK = [
    ("environment", pa.string()),
    ("kind", pa.string()),
    ("split", pa.string()),
    ("index", pa.int32()),
    ("seed", pa.int32()),
    ("data", pa.string()),
]
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


def to_table(tree: Tree) -> pa.Table:
    """The rows of one tree: the root, and the nodes that a return was backed up through."""
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
        rows.append(shared | row | {"node": number[index]})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


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
    return Node(**fields)


def _id(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")


class TreeStore:
    """A directory of trees: `<environment>/<split>/<tree id>.parquet`; every file holds all columns.

    `root` is a path, or a URI such as `s3://bucket/trees`. Raises UserError for one that cannot be reached.
    """

    def __init__(self, root: storage.Location) -> None:
        self.root = str(root)
        self._files, self._folder = storage.filesystem(self.root)

    def write(self, tree: Tree) -> None:
        """Commit one tree; one of the same id is replaced whole."""
        folder = f"{self._folder}/{tree.task.environment}/{tree.task.split}"
        self._files.create_dir(folder, recursive=True)
        temporary = f"{folder}/.{tree.id}.{socket.gethostname()}.{os.getpid()}.writing"
        pq.write_table(to_table(tree), temporary, filesystem=self._files)
        self._files.move(temporary, f"{folder}/{tree.id}.parquet")

    def finished(self) -> set[str]:
        """Ids of the trees that are there."""
        return {_id(path) for path in self._paths()}

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
            yield self._read(path, columns)

    def table(self, tree: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of the tree with this id. Raises UserError when it is not there, and as `trees` does."""
        path = next((path for path in self._paths() if _id(path) == tree), None)
        if path is None:
            raise UserError(f"there is no tree {tree} in {self.root}")
        return self._read(path, columns)

    def _read(self, path: str, columns: Sequence[str] | None) -> pa.Table:
        try:
            with pq.ParquetFile(path, filesystem=self._files) as file:
                version = (file.schema_arrow.metadata or {}).get(b"agentrm.trees", b"none").decode()
                if version == VERSION:
                    return file.read(columns=columns)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise UserError(f"{path} is not readable as a tree: delete it and run `agentrm trees` again") from error
        raise UserError(f"{path} has schema version {version}, not {VERSION}: delete it and run `agentrm trees` again")

    def _paths(self) -> list[str]:
        selector = fs.FileSelector(self._folder, allow_not_found=True, recursive=True)
        found = (info for info in self._files.get_file_info(selector) if info.type == fs.FileType.File)
        return sorted(info.path for info in found if info.extension == "parquet" and not info.base_name.startswith("."))

"""The tree dataset: Parquet, one row per node, one file per tree, partitioned by environment and split.

A tree is written under a temporary name and renamed, so a killed run leaves no half tree; a re-run skips what is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from agentrm.environments.base import Task
from agentrm.errors import UserError
from agentrm.search.tree import Node, Tree

VERSION = "1"

_TASK = [
    ("environment", pa.string()),
    ("kind", pa.string()),
    ("split", pa.string()),
    ("index", pa.int32()),
    ("seed", pa.int32()),
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
    ("visits", pa.int32()),
    ("value", pa.float64()),
    ("outcome", pa.float64()),
    ("progress", pa.float64()),
    ("terminal", pa.bool_()),
    ("merged", pa.int32()),
]
_TREE = [
    ("iterations", pa.int32()),
    ("ended_by", pa.string()),
    ("policy_tokens", pa.int64()),
    ("environment_errors", pa.int32()),
    ("seconds", pa.float64()),
]
SCHEMA = pa.schema(
    [("tree", pa.string()), *_TASK, ("node", pa.int32()), *_NODE, *_TREE], metadata={"agentrm.trees": VERSION}
)


def to_table(tree: Tree) -> pa.Table:
    """The rows of one tree; nodes that no outcome was backed up through are left out."""
    kept = [index for index, node in enumerate(tree.nodes) if node.visits]
    number = {index: position for position, index in enumerate(kept)}
    shared = {"tree": tree.task.id, **asdict(tree.task), **{name: getattr(tree, name) for name, _ in _TREE}}
    rows = []
    for index in kept:
        node = tree.nodes[index]
        row = {name: getattr(node, name) for name, _ in _NODE}
        row["parent"] = number.get(node.parent, -1)
        rows.append(shared | row | {"node": number[index]})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_table(table: pa.Table) -> Tree:
    """The tree that `to_table` wrote."""
    rows = table.to_pylist()
    nodes = [Node(**{name: row[name] for name, _ in _NODE}) for row in rows]
    for index, node in enumerate(nodes[1:], start=1):
        nodes[node.parent].children.append(index)
    first = rows[0]
    task = Task(**{name: first[name] for name, _ in _TASK})
    return Tree(task, nodes, **{name: first[name] for name, _ in _TREE})


class TreeStore:
    """A directory of trees: `<environment>/<split>/<task id>.parquet`; every file holds all columns."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def write(self, tree: Tree) -> None:
        """Commit one tree; a tree of the same task is replaced whole."""
        folder = self.root / tree.task.environment / tree.task.split
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{tree.task.id}.{os.getpid()}.writing"
        pq.write_table(to_table(tree), temporary)
        temporary.rename(folder / f"{tree.task.id}.parquet")

    def finished(self) -> set[str]:
        """Ids of the tasks whose trees are there."""
        return {path.stem for path in self._paths()}

    def trees(self) -> Iterator[Tree]:
        """All trees in the order of their paths. Raises UserError for a file that is no tree of this version."""
        for path in self._paths():
            try:
                table = pq.read_table(path, partitioning=None)
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(f"{path} is not readable as a tree: delete it and run `agentrm trees` again") from error
            if (table.schema.metadata or {}).get(b"agentrm.trees") != VERSION.encode() or not table.num_rows:
                raise UserError(
                    f"{path} is no tree of schema version {VERSION}: delete it and run `agentrm trees` again"
                )
            yield from_table(table)

    def _paths(self) -> list[Path]:
        return sorted(self.root.glob("*/*/[!.]*.parquet"))

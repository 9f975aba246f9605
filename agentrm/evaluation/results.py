"""What an evaluation has found so far: a file of rows for each task that is done, which outlives crashes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa

from agentrm import storage
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import Row, Rows
from agentrm.evaluation.metrics import COSTS

_SUFFIX = ".json"
_TASKS = 256


class Results:
    """`<task id>.json` in a folder for each task, with a row for each of the methods `labels`, and of earlier ones."""

    def __init__(self, location: storage.Location, labels: Collection[str]) -> None:
        self.location = str(location)
        self._labels = list(labels)

    def rows(self, task: Task) -> Rows:
        """What there is of a task; rows of an older version that lack a cost are not there."""
        rows = json.loads(storage.read_text(self._file(task)) or "[]")
        return {row["method"]: row for row in rows if row.keys() >= set(COSTS)}

    def write(self, task: Task, rows: Rows) -> None:
        """Commit the rows of a task, whole."""
        storage.write_text(self._file(task), json.dumps(list(rows.values())))

    def finished(self) -> set[str]:
        """Ids of the tasks that have a file."""
        files = (name for name in storage.names(self.location) if not name.startswith("."))
        return {name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)}

    def missing(self, todo: Iterable[tuple[Task, str]]) -> list[tuple[Task, str]]:
        """Those tasks, each with its group, that lack a row of a method."""
        there = self.finished()
        return [(task, group) for task, group in todo if task.id not in there or not self._whole(self.rows(task))]

    def table(self, todo: Sequence[tuple[Task, str]], given_up: Mapping[str, str]) -> pa.Table:
        """A row for each task and method, in their order; the `error` alone for a task that was given up, which names
        it by the task's id. Few rows are held as objects at a time.
        """
        parts = []
        for start in range(0, len(todo), _TASKS):
            rows: list[Row] = []
            for task, group in todo[start : start + _TASKS]:
                stored = self.rows(task)
                if self._whole(stored):
                    rows += [stored[label] for label in self._labels]
                    continue
                shared = {"group": group, "environment": task.environment, "kind": task.kind, "task": task.id}
                rows += [shared | {"method": label, "error": given_up[task.id]} for label in self._labels]
            names = dict.fromkeys(name for row in rows for name in row)
            parts.append(pa.table({name: [row.get(name) for row in rows] for name in names}))
        return pa.concat_tables(parts, promote_options="default")

    def _whole(self, rows: Rows) -> bool:
        return rows.keys() >= set(self._labels)

    def _file(self, task: Task) -> str:
        return f"{self.location}/{task.id}{_SUFFIX}"

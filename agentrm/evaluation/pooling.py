"""The episodes of several runs as one table, for intervals over all their tasks: runs that differ in their seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from agentrm.core.errors import UserError
from agentrm.run import RunDirectory


def pooled(runs: Sequence[str]) -> pa.Table:
    """The episodes of finished evaluations, one run after another; see `metrics.summarise`.

    Raises UserError for a run without an evaluation, for runs with other methods than the first, and for a task that
    two of them were evaluated on: no interval may count it twice.
    """
    tables: list[pa.Table] = []
    owner: dict[str, str] = {}
    methods: set[str] = set()
    for run in runs:
        directory = RunDirectory.existing(run)
        if not directory.finished("evaluation"):
            raise UserError(f"{run} has no evaluation yet: run `agentrm evaluate run={run}` first")
        table = pq.read_table(directory.path("evaluation") / "episodes.parquet")
        own = set(table["method"].to_pylist())
        methods = methods or own
        if own != methods:
            first = sorted(own ^ methods)[0]
            raise UserError(
                f"{run} and {runs[0]} were evaluated by other methods, {first} is in one of them alone: give both the "
                "same evaluate keys, and evaluate again"
            )
        for task in dict.fromkeys(table["task"].to_pylist()):
            if task in owner:
                raise UserError(
                    f"{run} and {owner[task]} were both evaluated on the task {task}: pool runs of other tasks.seed"
                )
            owner[task] = run
        tables.append(table)
    return pa.concat_tables(tables, promote_options="permissive")

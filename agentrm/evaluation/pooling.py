"""The episodes of several runs as one table, for intervals over all their tasks: runs that differ in their seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from agentrm.core.errors import UserError
from agentrm.run import RunDirectory

EVALUATION, LIVE = "evaluation", "live"
"""Folders of a run that hold episodes: what `agentrm evaluate` and `agentrm benchmark agent` have played."""

_MISSING = {
    EVALUATION: "evaluation yet: run `agentrm evaluate",
    LIVE: "live episodes yet: run `agentrm benchmark agent",
}


def pooled(runs: Sequence[str], played: str = EVALUATION) -> pa.Table:
    """The episodes that finished runs have `played`, one run after another; see `metrics.summarise`.

    Raises UserError for a run without them, for runs with other methods than the first, and for a task that two of them
    played: no interval may count it twice.
    """
    tables: list[pa.Table] = []
    owner: dict[str, str] = {}
    methods: set[str] = set()
    for run in runs:
        directory = RunDirectory.existing(run)
        if not directory.finished(played):
            raise UserError(f"{run} has no {_MISSING[played]} run={run}` first")
        table = pq.read_table(directory.path(played) / "episodes.parquet")
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

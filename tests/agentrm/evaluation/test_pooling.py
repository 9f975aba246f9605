"""Episodes of several runs: what is pooled, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentrm.config.loading import load
from agentrm.core.errors import UserError
from agentrm.evaluation.metrics import Settings, summarise
from agentrm.evaluation.pooling import pooled
from agentrm.run import RunDirectory
from tests.agentrm.evaluation.test_metrics import episode

OUTCOMES = {"sampled mean": 0.0, "shortest of 5": 0.25, "best of 5": 1.0}


def evaluated(tmp_path: Path, name: str, outcomes: dict[str, float], tasks: str, more: float = 0.0) -> str:
    location = str(tmp_path / name)
    directory = RunDirectory.open(load("quickstart", [f"run={location}"]))
    rows = [episode(task, method, outcome * (1 + more)) for task in tasks for method, outcome in outcomes.items()]
    with directory.writing("evaluation") as output:
        pq.write_table(pa.Table.from_pylist(rows), output / "episodes.parquet")
    return location


def test_leads_are_paired_over_the_tasks_of_all_runs(tmp_path: Path) -> None:
    runs = [evaluated(tmp_path, "one", OUTCOMES, "ab"), evaluated(tmp_path, "two", OUTCOMES, "cdef", more=-0.5)]
    table = pooled(runs)
    assert table.num_rows == 6 * 3
    found = {row["method"]: row for row in summarise(table, ["group"], Settings(2000, 0.9)).to_pylist()}
    best = found["best of 5"]
    # Over the shortest it leads by .75 on two tasks and by .375 on four.
    assert (best["tasks"], best["rival"]) == (6, "shortest of 5")
    assert best["best_lead"] == pytest.approx(0.5)
    assert 0.375 <= best["best_lead_low"] < 0.5 < best["best_lead_high"] <= 0.75


def test_what_cannot_be_pooled_is_refused(tmp_path: Path) -> None:
    one = evaluated(tmp_path, "one", OUTCOMES, "ab")
    with pytest.raises(UserError, match=r"were both evaluated on the task b: pool runs of other tasks\.seed"):
        pooled([one, evaluated(tmp_path, "again", OUTCOMES, "bc")])
    with pytest.raises(UserError, match="shortest of 5 is in one of them alone"):
        pooled([one, evaluated(tmp_path, "less", {"sampled mean": 0.0, "best of 5": 1.0}, "cd")])
    empty = RunDirectory.open(load("quickstart", [f"run={tmp_path / 'empty'}"])).location
    with pytest.raises(UserError, match="has no evaluation yet: run `agentrm evaluate run="):
        pooled([one, str(empty)])

"""The paper's rows, worked out by hand."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.paper import COLUMNS, paper_rows

SETTINGS = Settings(resamples=200)


def rows(
    environment: str, outcomes: list[float], method: str = "greedy", kind: str = "k", data: str = "0"
) -> list[dict[str, object]]:
    return [
        {
            "environment": environment,
            "kind": kind,
            "task": f"{environment}.{kind}.test.{number}.{data}",
            "method": method,
            "outcome": outcome,
            "error": "",
        }
        for number, outcome in enumerate(outcomes)
    ]


def test_environments_count_the_same_whatever_their_tasks() -> None:
    table = rows("alfworld", [1.0, 0.0, 0.0, 0.0]) + rows("babyai", [1.0]) + rows("maze", [0.5, 0.5])
    table += rows("alfworld+using", [1.0]) + rows("chess", [1.0])
    (row,) = paper_rows(pa.Table.from_pylist(table), SETTINGS)
    web, embodied, game, tool, overall = (mean.value for mean in row.means)
    assert (row.method, len(COLUMNS)) == ("greedy", 5)
    assert math.isnan(web)
    assert math.isnan(tool)
    # (25 + 100) / 2, and (25 + 100 + 50) / 3.
    assert embodied == pytest.approx(62.5)
    assert game == 50
    assert overall == pytest.approx(58.333, abs=0.001)
    low, high = row.means[1].low, row.means[1].high
    assert 50 <= low < 62.5 < high <= 100
    assert row.means[2].low == row.means[2].high == 50
    assert row.paper == (None,) * 5


def test_a_task_that_failed_counts_in_no_method() -> None:
    table = rows("maze", [1.0, 0.0]) + rows("maze", [1.0, 1.0], "best of 5") + rows("maze", [1.0, 1.0], "sampled mean")
    table[1]["error"] = "gone"
    found = {row.method: row.means[2].value for row in paper_rows(pa.Table.from_pylist(table), SETTINGS)}
    # The sampled mean is no method of the paper's.
    assert found == {"greedy": 100, "best of 5": 100}


def test_the_papers_figures_stand_beside_its_own_tests_alone() -> None:
    official = "official-0c5e17d2"
    whole = rows("webshop", [0.5] * 200, data=official)
    (row,) = paper_rows(pa.Table.from_pylist(whole), SETTINGS)
    assert row.paper == (57.8, None, None, None, None)
    for other in (rows("webshop", [0.5] * 199, data=official), rows("webshop", [0.5] * 200), whole):
        (row,) = paper_rows(pa.Table.from_pylist(other), SETTINGS)
        assert (row.paper[0] is None) == (other != whole)
    (row,) = paper_rows(pa.Table.from_pylist(rows("webshop", [0.5] * 200, "best of 4", data=official)), SETTINGS)
    assert row.paper[0] is None
    sizes = {"jericho": 20, "pddl": 60}
    games = [each for name, size in sizes.items() for each in rows(name, [1.0] * size, "beam 5x5", data=official)]
    games += rows("maze", [1.0] * 25, "beam 5x5", kind="double_t")
    (row,) = paper_rows(pa.Table.from_pylist(games), SETTINGS)
    assert row.paper == (None, None, 47.5, None, None)


def test_without_one_of_its_environments_there_are_no_rows() -> None:
    assert paper_rows(pa.Table.from_pylist(rows("chess", [1.0])), SETTINGS) == []

"""`agentrm import` and `agentrm export` on the command line: what they say, what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrm.data.trees import TreeStore
from agentrm.run import RunDirectory
from jobs.importing import told_apart
from tests.agentrm.episodes import records
from tests.jobs.test_cli import agentrm


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    rows = [records.OPENAI | {"id": str(number), "task_id": number % 5, "reward": number % 2} for number in range(20)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_sources_and_keys_are_told_apart() -> None:
    given = ["a.jsonl", "run=runs/x", "outcome=won", "./a=b.jsonl", "scale=[-1,1]", "s3://b/c=d", "train.epochs=1"]
    sources, overrides = told_apart(given)
    assert sources == ["a.jsonl", "./a=b.jsonl", "s3://b/c=d"]
    assert overrides == ["run=runs/x", "episodes.outcome=won", "episodes.scale=[-1,1]", "train.epochs=1"]


def test_an_import_again_is_nothing_and_other_sources_are_refused(log: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = agentrm("import", str(log), f"run={run}", "environment=shop")
    assert first.returncode == 0 and "5 trees of 5 tasks" in first.stderr
    store = TreeStore(run / "trees")
    assert {tree.task.environment for tree in store.trees()} == {"shop"}
    assert [tree.nodes[0].visits for tree in store.trees()] == [4] * 5
    assert RunDirectory.existing(run).config.episodes.environment == "shop"
    assert not list((run / "work").iterdir())
    again = agentrm("import", str(log), f"run={run}", "environment=shop", "strict=true")
    assert again.returncode == 0 and "already" in again.stderr
    other = agentrm("import", str(log), f"run={run}", "outcome=reward", "environment=shop")
    assert other.returncode == 2 and "episodes.outcome" in other.stderr
    log.write_text(log.read_text() * 2)
    changed = agentrm("import", str(log), f"run={run}", "environment=shop")
    assert changed.returncode == 2 and "trees of other sources" in changed.stderr
    for result in (other, changed):
        assert len(result.stderr.splitlines()) == 1


def test_what_is_left_out_is_said_and_strict_stops(log: Path, tmp_path: Path) -> None:
    with log.open("a") as file:
        file.write(
            json.dumps(records.OPENAI | {"reward": 3}) + "\n" + json.dumps(records.OPENAI | {"task_id": 0, "id": "5"})
        )
    run = tmp_path / "run"
    strict = agentrm("import", str(log), f"run={run}", "strict=true")
    assert strict.returncode == 2 and f"{log}, line 21: reward is 3" in strict.stderr and not (run / "trees").exists()
    lenient = agentrm("import", str(log), f"run={run}")
    assert lenient.returncode == 0 and "line 21" in lenient.stderr and "2 records were left out" in lenient.stderr
    assert "line 22: the id '5' was there before" in lenient.stderr
    counts = RunDirectory.existing(run).metrics("import")
    assert (counts["episodes"], counts["problems"], counts["trees"], counts["tasks"]) == (20, 2, 5, 5)
    assert counts["sources"] == [str(log)] and len(counts["shown"]) == 2


def test_a_check_writes_nothing(log: Path, tmp_path: Path) -> None:
    log.write_text(log.read_text() + "nothing\n" + log.read_text().splitlines()[0])
    result = agentrm("import", str(log), f"run={tmp_path / 'run'}", "--check")
    assert result.returncode == 0
    assert result.stdout.splitlines() == ["log: 21 episodes of openai", "21 episodes of 5 tasks in 1 files"]
    assert "line 21: no JSON" in result.stderr and "1 have an id that was there before" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run=x"], "which episodes?"),
        (["none.jsonl"], "there is no none.jsonl"),
        (["none.jsonl", "scale=[1,0]"], "episodes.scale"),
        (["none.jsonl", "environment=a/b"], "episodes.environment"),
        (["none.jsonl", "episode.form=x"], "episode"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = agentrm("import", *arguments)
    assert result.returncode == 2 and told in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_nothing_that_can_be_read_makes_no_trees(log: Path, tmp_path: Path) -> None:
    log.write_text("nothing\n")
    result = agentrm("import", str(log), f"run={tmp_path / 'run'}")
    assert result.returncode == 2 and "no episode can be read" in result.stderr and "line 1: no JSON" in result.stderr
    assert not (tmp_path / "run" / "trees").exists()


def test_trees_are_exported_and_imported_again(log: Path, tmp_path: Path) -> None:
    agentrm("import", str(log), f"run={tmp_path / 'run'}")
    result = agentrm("export", str(tmp_path / "run"), "--as", "openai", "--to", str(tmp_path / "out"))
    assert result.returncode == 0 and result.stdout.startswith("5 rows (")
    again = agentrm("import", str(tmp_path / "out"), f"run={tmp_path / 'again'}")
    assert again.returncode == 0
    one, two = (TreeStore(tmp_path / name / "trees") for name in ("run", "again"))
    assert one.finished() == two.finished() and all(one.table(tree) == two.table(tree) for tree in one.finished())
    for arguments, told in (
        (("--as", "csv", "--to", "x"), "no form 'csv'"),
        (("--as", "openai", "--to", str(tmp_path / "out")), "is there already"),
    ):
        refused = agentrm("export", str(tmp_path / "run"), *arguments)
        assert refused.returncode == 2 and told in refused.stderr and len(refused.stderr.splitlines()) == 1

"""An import of several files at once on Ray, killed and run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.data.trees import TreeStore, to_table
from agentrm.episodes import importing
from jobs.importing import run
from tests.agentrm.episodes import records


def test_files_are_read_at_once_and_a_problem_that_ends_the_import_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").mkdir()
    for number in range(4):
        rows = [records.OPENAI | {"task_id": task, "id": f"{number}.{task}"} for task in range(30)]
        (tmp_path / "log" / f"{number}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sources = [str(tmp_path / "log")]
    run(load("imported", [f"run={tmp_path / 'one'}", "cluster.cpus=2"]), sources)
    one = {tree.id: to_table(tree) for tree in TreeStore(tmp_path / "one" / "trees").trees()}
    # The sizes are those of the driver, which cuts up the work.
    monkeypatch.setattr(importing, "_BATCH", 1)
    monkeypatch.setattr(importing, "_PART", 4096)
    config = load("imported", [f"run={tmp_path / 'many'}", "cluster.cpus=2"])
    with monkeypatch.context() as patch:
        patch.setattr("jobs.importing.parts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config, sources)
    spooled = {path: path.stat().st_mtime_ns for path in (tmp_path / "many" / "work").rglob("counts.json")}
    assert len(spooled) == 4 and not (tmp_path / "many" / "trees").exists()
    counts = run(config, sources)
    assert counts["episodes"] == 120 and counts["trees"] == 30
    store = TreeStore(tmp_path / "many" / "trees")
    assert {tree.id: to_table(tree) for tree in store.trees()} == one and len(store.parts()) > 3


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt

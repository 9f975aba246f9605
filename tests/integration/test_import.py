"""An import of several files at once on Ray, killed and run again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
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


def test_a_killed_import_leaves_no_trees_and_goes_on(tmp_path: Path) -> None:
    rows = [records.OPENAI | {"task_id": number // 4, "id": str(number)} for number in range(20_000)]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    directory = tmp_path / "run"
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "import", str(tmp_path / "log.jsonl")]
    for pattern in ("spool/*.writing/*/*/*", "trees/*/*/.*.writing"):
        process = subprocess.Popen([*command, f"run={directory}"])
        while not list((directory / "work" / "import").glob(pattern)):
            assert process.poll() is None, "it was done before it could be killed"
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not (directory / "trees").exists()
    assert run(load("imported", [f"run={directory}"]), [str(tmp_path / "log.jsonl")])["episodes"] == 20_000
    store = TreeStore(directory / "trees")
    assert len(store.finished()) == 5000 and {tree.nodes[0].visits for tree in store.trees()} == {4}
    assert len(store.parts()) == 3

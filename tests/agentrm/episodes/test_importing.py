"""The passes of an import: parts of trees, resumed where it was cut, the same however the files are cut up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrm import storage
from agentrm.config.schema import Episodes
from agentrm.core.errors import UserError
from agentrm.core.messages import runs
from agentrm.data.trees import TreeStore, to_table
from agentrm.episodes import importing
from agentrm.episodes.importing import batches, build, parts, spool
from agentrm.episodes.sources import found
from tests.agentrm.episodes import records

SETTINGS = Episodes()


def log(folder: Path, files: int = 3, tasks: int = 40) -> Path:
    """`files` of one episode per task each; of a task all begin alike."""
    folder.mkdir()
    for number in range(files):
        rows = []
        for task in range(tasks):
            messages = [{"role": "user", "content": f"task {task}"}, *records.MESSAGES[1:3]]
            messages.append({"role": "assistant", "content": f"answer {number % 2}"})
            rows.append({"messages": messages, "tools": records.TOOLS, "task_id": task, "reward": number % 2})
        (folder / f"{number}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def imported(source: Path, work: Path | str, settings: Episodes = SETTINGS) -> TreeStore:
    todo = batches(found([str(source)]), settings)
    for batch in todo:
        spool(batch, settings, str(work))
    for part in parts(todo, str(work)):
        build(part, todo, str(work))
    return TreeStore(f"{work}/trees")


def test_trees_of_all_files_and_their_values(tmp_path: Path) -> None:
    store = imported(log(tmp_path / "log"), tmp_path / "work")
    trees = list(store.trees())
    assert len(trees) == 40 == len({tree.task for tree in trees}) and {tree.task.split for tree in trees} > {"train"}
    for tree in trees:
        assert [node.visits for node in tree.nodes] == [3, 3, 2, 1]
        assert [node.value for node in tree.nodes] == [pytest.approx(1 / 3)] * 2 + [0, 1]
        assert [origin.line for origin in tree.nodes[3].origins] == [runs_task(tree.nodes[0].observation)]
    assert store.finished() == {tree.id for tree in trees}


def runs_task(text: str) -> int:
    return int(text.removeprefix("task ")) + 1


def test_however_the_work_is_cut_up_the_trees_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = log(tmp_path / "log")
    whole = {tree.id: to_table(tree) for tree in imported(source, tmp_path / "one").trees()}
    monkeypatch.setattr(importing, "_BATCH", 1)
    monkeypatch.setattr(importing, "_PART", 4096)
    files = found([str(source)])
    assert len(batches(files, SETTINGS)) == 3
    store = imported(source, tmp_path / "many")
    assert len(store.parts()) > 9
    assert {tree.id: to_table(tree) for tree in store.trees()} == whole
    assert all(store.table(tree) == rows for tree, rows in whole.items())
    everywhere = imported(source, f"file://{tmp_path}/uri")
    assert {tree.id: to_table(tree) for tree in everywhere.trees()} == whole


def test_what_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_BATCH", 1)
    source, work = log(tmp_path / "log"), str(tmp_path / "work")
    todo = batches(found([str(source)]), SETTINGS)
    counts = spool(todo[0], SETTINGS, work)
    assert counts["episodes"] == 40 and counts["problems"] == 0
    (source / "0.jsonl").rename(tmp_path / "gone.jsonl")
    assert spool(todo[0], SETTINGS, work) == counts, "a spooled file is not read again"
    (tmp_path / "gone.jsonl").rename(source / "0.jsonl")
    assert [batch.key for batch in batches(found([str(source)]), SETTINGS)] == [batch.key for batch in todo]
    (source / "0.jsonl").write_text((source / "1.jsonl").read_text())
    again = batches(found([str(source)]), SETTINGS)
    assert again[0].key != todo[0].key and again[1].key == todo[1].key, "a file that has changed is another one"
    other = batches(found([str(source)]), Episodes(outcome="reward"))
    assert other[1].key != todo[1].key and batches(found([str(source)]), Episodes(strict=True))[1].key == todo[1].key
    for batch in again:
        spool(batch, SETTINGS, work)
    first, *_ = parts(again, work)
    counts = build(first, again, work)
    storage.delete(f"{work}/spool")
    assert build(first, again, work) == counts, "a part that was built is not built again"


def test_half_of_a_spool_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, work = log(tmp_path / "log"), tmp_path / "work"
    (batch,) = batches(found([str(source)]), SETTINGS)
    (work / "spool" / f"{batch.key}.writing" / "imported" / "train").mkdir(parents=True)
    (work / "spool" / f"{batch.key}.writing" / "imported" / "train" / "0").write_text("half of a li")
    assert spool(batch, SETTINGS, str(work))["episodes"] == 120
    assert len(list(imported(source, work).trees())) == 40


def test_strict_stops_at_the_first_problem_also_when_all_was_spooled(tmp_path: Path) -> None:
    source, work = log(tmp_path / "log"), str(tmp_path / "work")
    with (source / "1.jsonl").open("a") as file:
        file.write("nothing\n")
    strict = Episodes(strict=True)
    (batch,) = batches(found([str(source)]), strict)
    for _ in range(2):
        with pytest.raises(UserError, match=r"1\.jsonl, line 41: no JSON"):
            spool(batch, strict, work)
        counts = spool(batch, SETTINGS, work)
        assert counts["episodes"] == 120 and counts["problems"] == 1
    assert "line 41" in counts["shown"][0]


def test_memory_holds_one_task_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = []
    real = importing.trees

    def watched(task, episodes):
        most.append(len(episodes))
        assert len({str(runs(each.messages)[0]) for each in episodes}) == 1
        return real(task, episodes)

    monkeypatch.setattr(importing, "trees", watched)
    imported(log(tmp_path / "log"), tmp_path / "work")
    assert most == [3] * 40

"""The tree dataset: what is written is read back, committed whole, and readable by plain pyarrow and pandas."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from agentrm.config.schema import Trees
from agentrm.core.errors import UserError
from agentrm.core.tree import Node, Origin, Tree
from agentrm.data.trees import VERSION, TreeStore, part, to_table
from agentrm.search.mcts import TreeSearch
from tests.agentrm.search.toy import BARE, TASK, EvenPolicy, ToyGrader, ToySessions, TrueValue


@pytest.fixture
def tree() -> Tree:
    search = TreeSearch(EvenPolicy(), ToySessions(), ToyGrader(), Trees(iterations=5, max_depth=9), BARE)
    return asyncio.run(search.grow(TASK))


def test_round_trip(tmp_path: Path, tree: Tree):
    store = TreeStore(tmp_path)
    assert store.finished() == set()
    tree.nodes[1].label = -0.5
    store.write(tree)
    assert store.finished() == {TASK.id}
    (again,) = store.trees()
    assert again.task == tree.task and again.iterations == tree.iterations and again.ended_by == tree.ended_by
    assert to_table(again) == to_table(tree)
    assert [node.label for node in again.nodes[:3]] == [None, -0.5, None]
    assert [again.state(i) for i in range(len(again.nodes))] == [tree.state(i) for i in range(len(tree.nodes))]


def test_unvisited_nodes_are_left_out(tree: Tree):
    rows = to_table(tree).num_rows
    proposal = tree.state(1).steps[0].proposal
    index = tree.add(0, proposal, asyncio.run(ToySessions().observe(TASK, ("x",))))
    assert tree.nodes[index].visits == 0 and to_table(tree).num_rows == rows


def test_a_tree_without_an_outcome_is_recorded_and_passed_over(tmp_path: Path):
    store = TreeStore(tmp_path)
    store.write(Tree(TASK, [Node(-1, 0, "a room")], ended_by="seconds"))
    assert store.finished() == {TASK.id} and list(store.trees()) == []
    (table,) = store.tables(["ended_by", "visits"])
    assert table.to_pylist() == [{"ended_by": "seconds", "visits": 0}]


def test_trees_of_one_task_lie_side_by_side(tmp_path: Path, tree: Tree):
    store = TreeStore(tmp_path)
    store.write(tree)
    tree.number = 1
    store.write(tree)
    assert store.finished() == {TASK.id, f"{TASK.id}@1"}
    assert [again.number for again in store.trees()] == [0, 1]


def test_one_tree_is_read_by_its_id(tmp_path: Path, tree: Tree):
    store = TreeStore(tmp_path)
    store.write(tree)
    assert store.table(tree.id) == to_table(tree)
    assert store.table(tree.id, ["visits"]).column_names == ["visits"]
    for absent in (f"{tree.id}@2", f"../{tree.id}", f"{TASK.environment}/{TASK.split}/{tree.id}"):
        with pytest.raises(UserError, match="there is no tree"):
            store.table(absent)


def test_a_part_holds_many_trees_and_each_is_found(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agentrm.data.trees._ROWS", 3 * len(tree.nodes))
    some = [replace(tree, task=replace(TASK, index=index), number=index % 2) for index in range(10)]
    numbers = [part(each.task.id, 2) for each in some]
    assert set(numbers) == {0, 1}
    store = TreeStore(tmp_path)
    for number in (0, 1):
        its = (each for each, where in zip(some, numbers, strict=True) if where == number)
        store.write_part(its, TASK.environment, TASK.split, number, 2)
    store.write(tree := replace(tree, task=replace(TASK, index=99)))
    assert store.finished() == {each.id for each in (*some, tree)} and len(list(store.trees())) == 11
    assert len(store.parts()) == 2 and all(
        f"{TASK.environment}/{TASK.split}/part-0000" in name for name in store.parts()
    )
    for each in (*some, tree):
        assert store.table(each.id) == to_table(each)
        assert store.table(each.id, ["visits"]).column_names == ["visits"]
    tables = {table["tree"][0].as_py(): table for table in store.tables(["tree", "value"])}
    assert all(tables[each.id].num_rows == len(each.nodes) for each in some)
    with pytest.raises(UserError, match="there is no tree"):
        store.table(f"{TASK.id}@7")
    assert not list(tmp_path.rglob(".*"))


def test_where_imported_episodes_were_is_kept(tmp_path: Path, tree: Tree):
    tree.nodes[-1].origins = (Origin("log", 3, "e", "m", 0.5, "log:3", "chosen"), Origin("log", 4))
    tree.nodes[-1].label, tree.nodes[-1].reward = -1.0, 0.25
    store = TreeStore(tmp_path)
    store.write(tree)
    (again,) = store.trees()
    assert [(node.origins, node.label, node.reward) for node in again.nodes] == [
        (node.origins, node.label, node.reward) for node in tree.nodes
    ]


def test_an_estimate_is_kept(tmp_path: Path):
    search = Trees(iterations=2, expansions=2, rollout_steps=0, max_depth=9)
    grown = asyncio.run(TreeSearch(EvenPolicy(1), ToySessions(), ToyGrader(), search, BARE, TrueValue()).grow(TASK))
    store = TreeStore(tmp_path)
    store.write(grown)
    (again,) = store.trees()
    assert [node.estimate for node in again.nodes] == [node.estimate for node in grown.nodes]
    assert any(node.estimate is not None for node in again.nodes)


@pytest.fixture
def written(tmp_path: Path, tree: Tree) -> Path:
    """Two trees of two environments, and an unfinished write."""
    store = TreeStore(tmp_path / "trees")
    store.write(tree)
    tree.task = replace(tree.task, environment="maze", split="valid")
    store.write(tree)
    (tmp_path / "trees" / "maze" / "valid" / ".another.1.writing").write_bytes(b"PAR1")
    return tmp_path / "trees"


def test_pyarrow_and_pandas_read_it(written: Path, tree: Tree):
    table = ds.dataset(written).to_table()
    assert table.num_rows == 2 * len(tree.nodes) and set(table["environment"].to_pylist()) == {"babyai", "maze"}
    frame = pd.read_parquet(written)
    assert (frame["visits"] >= 1).all() and len(frame) == table.num_rows


def test_duckdb_reads_it(written: Path, tree: Tree):
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql(
        f"select environment, count(*), max(visits) from '{written}/**/*.parquet' group by 1 order by 1"
    ).fetchall()
    assert rows == [(name, len(tree.nodes), tree.nodes[0].visits) for name in ("babyai", "maze")]


def test_datasets_reads_it(written: Path, tree: Tree, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(
        "parquet", data_files=f"{written}/**/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert found.num_rows == 2 * len(tree.nodes) and max(found["visits"]) == tree.nodes[0].visits


def test_another_schema_version_is_named(tmp_path: Path, tree: Tree):
    store = TreeStore(tmp_path)
    store.write(tree)
    (path,) = tmp_path.rglob("*.parquet")
    pq.write_table(to_table(tree).replace_schema_metadata({"agentrm.trees": "99"}), path)
    with pytest.raises(UserError, match=rf"{path.name} has schema version 99, not {VERSION}"):
        list(store.trees())
    pq.write_table(to_table(tree).replace_schema_metadata(None), path)
    with pytest.raises(UserError, match="schema version none"):
        list(store.trees())


def test_any_filesystem_of_pyarrow(tmp_path: Path, tree: Tree):
    store = TreeStore(f"file://{tmp_path}/remote")
    assert store.finished() == set()
    store.write(tree)
    assert TreeStore(tmp_path / "remote").finished() == store.finished() == {TASK.id}
    assert [path.name for path in (tmp_path / "remote").rglob("*.*")] == [f"{TASK.id}.parquet"]
    with pytest.raises(UserError, match="gopher://x/trees"):
        TreeStore("gopher://x/trees")


def test_a_half_written_file_is_named(tmp_path: Path, tree: Tree):
    store = TreeStore(tmp_path)
    store.write(tree)
    (path,) = tmp_path.rglob("*.parquet")
    (path.parent / f".{TASK.id}.1.writing").write_bytes(b"PAR1")
    assert len(list(store.trees())) == 1, "an unfinished write must not be read"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=path.name):
        list(store.trees())

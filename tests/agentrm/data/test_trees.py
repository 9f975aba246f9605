"""The tree dataset: what is written is read back, committed whole, and readable by plain pyarrow and pandas."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

from agentrm.config.schema import Search
from agentrm.data.trees import SCHEMA, TreeStore, to_table
from agentrm.errors import UserError
from agentrm.search.mcts import TreeSearch
from agentrm.search.tree import Tree
from tests.agentrm.search.toy import BARE, TASK, EvenPolicy, ToyGrader, ToySessions


@pytest.fixture
def tree() -> Tree:
    search = TreeSearch(EvenPolicy(), ToySessions(), ToyGrader(), Search(iterations=5, max_depth=9), BARE)
    return asyncio.run(search.grow(TASK))


def test_round_trip(tmp_path: Path, tree: Tree):
    store = TreeStore(tmp_path)
    assert store.finished() == set()
    store.write(tree)
    assert store.finished() == {TASK.id}
    (again,) = store.trees()
    assert again.task == tree.task and again.iterations == tree.iterations and again.ended_by == tree.ended_by
    assert to_table(again).select(SCHEMA.names) == to_table(tree)
    assert [again.state(i) for i in range(len(again.nodes))] == [tree.state(i) for i in range(len(tree.nodes))]


def test_unvisited_nodes_are_left_out(tree: Tree):
    rows = to_table(tree).num_rows
    proposal = tree.state(1).steps[0].proposal
    index = tree.add(0, proposal, asyncio.run(ToySessions().observe(TASK, ("x",))))
    assert tree.nodes[index].visits == 0 and to_table(tree).num_rows == rows


def test_other_readers(tmp_path: Path, tree: Tree):
    TreeStore(tmp_path).write(tree)
    table = ds.dataset(tmp_path).to_table()
    assert table.num_rows == len(tree.nodes) and set(table["environment"].to_pylist()) == {"babyai"}
    frame = pd.read_parquet(tmp_path)
    assert (frame["visits"] >= 1).all()


def test_a_half_written_file_is_named(tmp_path: Path, tree: Tree):
    store = TreeStore(tmp_path)
    store.write(tree)
    (path,) = tmp_path.rglob("*.parquet")
    (path.parent / f".{TASK.id}.1.writing").write_bytes(b"PAR1")
    assert len(list(store.trees())) == 1, "an unfinished write must not be read"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=path.name):
        list(store.trees())

"""What is exported is what was there: read again by the importer, by `datasets`, by TRL and by the models of `atif`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from agentrm.config.schema import Episodes, Trees
from agentrm.core.errors import UserError
from agentrm.core.messages import ToolCall
from agentrm.core.state import SEPARATOR, Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore, to_table
from agentrm.episodes.export.writing import FORMS, write
from agentrm.episodes.importing import batches, build, parts, spool
from agentrm.episodes.sources import found
from agentrm.search.mcts import TreeSearch
from tests.agentrm.episodes import records
from tests.agentrm.search.toy import BARE, TASK, EvenPolicy, ToyGrader, ToySessions, TrueValue
from tests.reward_models import LLAMA3, LLAMA3_TOKENS, write_policy

TOOL_TASK = Task("tools", "weather", "valid", 3)


def searched(**settings: Any) -> Tree:
    """A tree of a real search; values are discounted, and some rollouts are cut."""
    search = Trees(**{"iterations": 6, "max_depth": 9, "discount": 0.9} | settings)
    model = TrueValue() if search.rollout_steps is not None else None
    tree = asyncio.run(TreeSearch(EvenPolicy(1), ToySessions(), ToyGrader(), search, BARE, model).grow(TASK))
    tree.seconds = 0.5
    return tree


def with_tools() -> Tree:
    """Turns that call one or two tools, think, miss an answer, and say something."""
    parts = [{"type": "text", "text": "Where"}, {"type": "text", "text": "to?"}]
    opening = ({"role": "system", "content": "Help."}, {"role": "user", "content": parts})
    tree = Tree.of(State(TOOL_TASK, opening, tools=tuple(records.TOOLS)), 1)
    one, two = ToolCall("search", '{"to":  "Oslo"}', "c1"), ToolCall("search", "no JSON", "c2")
    both = Proposal("", f"a{SEPARATOR}b", "why", -1.5, 7, reasoning="Hm.", calls=(one, two))
    first = tree.add(0, both, Observation(f"SK 1{SEPARATOR}SK 2"))
    second = tree.add(0, Proposal("I look.", "a", calls=(one,)), Observation("nothing"))
    ended = tree.add(first, both, Observation("over", done=True))
    third = tree.add(first, Proposal("Take SK 1.", "Take SK 1.", malformed=True, removed="x"), Observation("Fine."))
    for node, value in ((second, 0.0), (ended, 0.25), (third, 1.0)):
        tree.nodes[node].outcome = value
        tree.nodes[node].progress = value / 2
        tree.back_up(node, value, 0.9)
    return tree


def stored(path: Path, trees: Iterable[Tree]) -> TreeStore:
    store = TreeStore(path)
    for tree in trees:
        store.write(tree)
    return store


def imported(source: Path, work: Path, **settings: Any) -> TreeStore:
    given = Episodes(strict=True, **settings)
    todo = batches(found([str(source)]), given)
    for batch in todo:
        spool(batch, given, str(work))
    for part in parts(todo, str(work)):
        counts = build(part, todo, str(work))
        assert not counts["problems"], counts["shown"]
    return TreeStore(work / "trees")


@pytest.fixture
def store(tmp_path: Path) -> TreeStore:
    cut = searched(rollout_steps=1, bootstrap="model")
    cut.number = 1
    return stored(tmp_path / "stored", [searched(), cut, with_tools()])


@pytest.mark.parametrize("form", ["openai", "atif"])
def test_trees_come_back_as_they_were(form: str, store: TreeStore, tmp_path: Path) -> None:
    counts = write(store.trees(), form, tmp_path / "out")
    again = imported(tmp_path / "out", tmp_path / "work")
    before = {tree.id: to_table(tree) for tree in store.trees()}
    assert len(before) == 3 and counts["valid"] == 3
    assert {tree.id: to_table(tree) for tree in again.trees()} == before
    assert any(node.estimate is not None for tree in again.trees() for node in tree.nodes)


@pytest.mark.parametrize("form", ["openai", "atif"])
def test_imported_episodes_come_back_with_where_they_were(form: str, tmp_path: Path) -> None:
    rows = [
        records.OPENAI,
        records.OPENAI | {"id": "e2", "reward": 0.5},
        records.PROCESS_BENCH | {"data_source": "log"},
    ]
    rows.append(records.OPENAI | {"messages": records.SPOKEN, "task_id": "é/\n", "id": "e3"})
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    first = imported(tmp_path / "log.jsonl", tmp_path / "work")
    write(first.trees(), form, tmp_path / "out")
    again = imported(tmp_path / "out", tmp_path / "again")
    before = {tree.id: to_table(tree) for tree in first.trees()}
    assert len(before) == 3 and {tree.id: to_table(tree) for tree in again.trees()} == before


def test_without_what_is_added_the_conversations_alone_come_back(store: TreeStore, tmp_path: Path) -> None:
    write([tree for tree in store.trees() if tree.task == TOOL_TASK], "openai", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "valid.jsonl").read_text().splitlines()]
    bare = [{key: row[key] for key in ("messages", "tools", "outcome", "task")} for row in rows]
    (tmp_path / "bare.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in bare))
    (again,) = imported(tmp_path / "bare.jsonl", tmp_path / "work").trees()
    (tree,) = (tree for tree in store.trees() if tree.task == TOOL_TASK)
    assert [node.calls for node in again.nodes] == [node.calls for node in (tree.nodes[i] for i in (0, 2, 1, 3, 4))]
    assert again.nodes[0].value == pytest.approx((0 + 0.25 + 1) / 3) and again.nodes[0].visits == 3


def test_atif_is_valid_by_the_models_of_its_package(store: TreeStore, tmp_path: Path) -> None:
    atif = pytest.importorskip("atif")
    write(store.trees(), "atif", tmp_path / "out")
    paths = sorted((tmp_path / "out").rglob("*.json"))
    assert len(paths) > 6
    for path in paths:
        atif.Trajectory.model_validate_json(path.read_text())


def test_siblings_of_different_value_are_pairs(tmp_path: Path) -> None:
    store = stored(tmp_path / "stored", [with_tools()])
    write(store.trees(), "pairs", tmp_path / "out")
    first, second = (json.loads(line) for line in (tmp_path / "out" / "valid.jsonl").read_text().splitlines())
    assert [message["role"] for message in first["prompt"]] == ["system", "user"]
    assert [each["tool_calls"][0]["id"] for each in (*first["chosen"], *first["rejected"])] == ["c1", "c1"]
    assert len(first["chosen"][0]["tool_calls"]) == 2 and first["rejected"][0]["content"] == "I look."
    assert second["chosen"] == [{"role": "assistant", "content": "Take SK 1."}] and len(second["prompt"]) == 5
    assert json.loads(first["tools"]) == records.TOOLS
    (again,) = imported(tmp_path / "out", tmp_path / "work").trees()
    assert (again.nodes[0].visits, again.nodes[0].value) == (4, 0.5)
    sides = [(origin.pair, origin.side) for node in again.nodes for origin in node.origins]
    assert sorted(sides) == [(f"{TOOL_TASK.id}@1/{node}", side) for node in (0, 1) for side in ("chosen", "rejected")]


def test_imported_pairs_are_those_that_were_there(tmp_path: Path) -> None:
    rows = [records.PLAN_REWARDBENCH, records.TRL | {"uuid": "0033761a"}]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    first = imported(tmp_path / "log.jsonl", tmp_path / "work")
    write(first.trees(), "pairs", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.jsonl")
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(len(row["chosen"]) for row in written) == [3, 6]
    assert all(row["prompt"] == records.MESSAGES[:1] for row in written)
    assert all(row["rejected"] == [{"role": "assistant", "content": "No."}] for row in written)
    assert [row["chosen"] for row in written if len(row["chosen"]) == 3] == [records.MESSAGES[1:]]
    assert [row["pair"] for row in written] == [f"{tmp_path / 'log.jsonl'}:{line}" for line in (1, 2)]


def test_steps_have_labels_values_and_rewards(tmp_path: Path) -> None:
    tree = with_tools()
    values = [node.value for node in tree.nodes]
    store = stored(tmp_path / "stored", [tree])
    for form in ("stepwise", "verl", "skyrl"):
        write(store.trees(), form, tmp_path / form)
    rows = {form: read(tmp_path / form / "valid.jsonl") for form in ("stepwise", "verl", "skyrl")}
    assert [row["values"] for row in rows["stepwise"]] == [[values[2]], [values[1], values[3]], [values[1], values[4]]]
    assert [row["labels"] for row in rows["stepwise"]] == [[False], [True, False], [True, True]]
    assert rows["stepwise"][0]["prompt"] == "Help.\n\nWhere\nto?"
    assert rows["stepwise"][0]["completions"] == ['I look.\nsearch({"to":  "Oslo"})\nnothing']
    for row, leaf in zip(rows["verl"], (2, 3, 4), strict=True):
        assert sum(row["extra_info"]["turn_scores"]) == pytest.approx(values[leaf] - values[0])
        assert len(row["prompt"]) == 2 and row["response"][0]["role"] == "assistant"
    steps = rows["skyrl"]
    assert [row["is_last_step"] for row in steps] == [True, False, True, False, True]
    assert [row["rewards"] for row in steps] == [
        score for row in rows["verl"] for score in row["extra_info"]["turn_scores"]
    ]
    assert [row["trajectory_id"]["repetition_id"] for row in steps] == [0, 1, 1, 2, 2]
    assert [len(row["prompt"]) for row in steps] == [2, 2, 5, 2, 5]


def test_labels_of_the_data_go_before_those_of_values(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(records.PROCESS_BENCH))
    first = imported(tmp_path / "log.jsonl", tmp_path / "work")
    write(first.trees(), "stepwise", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.jsonl")
    (row,) = read(path)
    assert row["labels"] == [False, True] and row["values"] == [1, 1]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "atif"])
def test_datasets_loads_it(form: str, store: TreeStore, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    other = with_tools()
    other.task = Task("tools", "other", "train", 1)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "default": 2}, "to": {"type": ["string", "null"]}},
    }
    function = {"name": "f", "parameters": schema}
    other.tools = ({"type": "function", "function": function},)
    counts = write([*store.trees(), other], form, tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    sizes = {"valid": "validation"}
    assert {name: len(rows) for name, rows in loaded.items()} == {
        sizes.get(name, name): n for name, n in counts.items()
    }


def test_trl_takes_a_step_on_the_pairs(store: TreeStore, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    write(store.trees(), "pairs", tmp_path / "out")
    write_policy(tmp_path / "policy", LLAMA3, LLAMA3_TOKENS, "<|eot_id|>", "<|eot_id|>")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "policy", num_labels=1)
    before = model.score.weight.detach().clone()
    settings = trl.RewardConfig(
        output_dir=str(tmp_path / "trained"), max_steps=1, per_device_train_batch_size=2, report_to="none", use_cpu=True
    )
    pairs = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["validation"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "policy")
    trainer = trl.RewardTrainer(model, settings, train_dataset=pairs, processing_class=tokenizer)
    trained = trainer.train()
    assert trained.global_step == 1 and trained.training_loss > 0
    assert not torch.equal(before, model.score.weight)


def test_a_directory_that_is_there_and_forms_that_are_none(store: TreeStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no form 'csv' to export as: name one of atif, openai"):
        write(store.trees(), "csv", tmp_path / "out")
    write(store.trees(), "openai", tmp_path / "out")
    with pytest.raises(UserError, match="is there already"):
        write(store.trees(), "openai", tmp_path / "out")
    alike = Tree(TASK, [Node(-1, 0, "", visits=1), Node(0, 1, "", "a", text="a", visits=1, outcome=0.0)])
    with pytest.raises(UserError, match="nothing to write as pairs"):
        write([alike], "pairs", tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()

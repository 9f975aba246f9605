"""The whole pipeline on real engines at tiny size, with a model and a chat template of Qwen3's form, whose thoughts are
kept: stages resume, and refuse what is not their own.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from agentrm.config.loading import changed, load
from agentrm.config.schema import Config
from agentrm.config.tasks import tasks
from agentrm.core.errors import UserError
from agentrm.data.states import held_out
from agentrm.data.trees import TreeStore
from agentrm.run import RunDirectory
from jobs import pipeline, train, trees
from tests.families import make
from tests.names import NASTIEST

TINY = str(Path(__file__).with_name("tiny.yaml"))
TEXT = "Your task: go to the red ball. You see: red ball 1 (1 forward). turn left, go forward, pick up"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    directory = tmp_path_factory.mktemp("pipeline")
    make("qwen3", [TEXT] * 9, 512, directory / "qwen3")
    return load(TINY, [f"run={directory / NASTIEST}", f"model.source={directory / 'qwen3'}", "model.thinking=keep"])


@pytest.fixture(scope="module")
def run(config: Config) -> Path:
    pipeline.run(config)
    return Path(config.run)


def test_every_task_has_one_tree(run: Path, config: Config):
    wanted = {task.id for task in tasks(config.tasks.trees, config.tasks.seed)}
    found = list(TreeStore(run / "trees").trees())
    assert {tree.task.id for tree in found} == wanted and len(found) == len(wanted)
    assert all(tree.nodes[0].visits >= 1 for tree in found)


def test_trees_of_other_splits_are_reported_and_not_learned_from(run: Path):
    metrics = RunDirectory.existing(run).metrics("train")
    grown = list(TreeStore(run / "trees").trees())
    unseen = [tree for tree in grown if tree.task.split == "valid"]
    assert len(unseen) == metrics["held_out"]["unseen babyai.pickup_loc"]["trees"] == 2
    learned = [tree for tree in grown if not held_out(tree.task, 0.3)]
    assert {tree.task.split for tree in learned} == {"train"}
    assert metrics["states"] == sum(sum(node.visits > 0 for node in tree.nodes) for tree in learned)


def test_trees_that_measure_the_reward_model_have_their_own_search(run: Path):
    grown = list(TreeStore(run / "trees").trees())
    measuring = [tree for tree in grown if tree.task.split == "valid"]
    assert {tree.iterations for tree in measuring} == {1}
    assert all(tree.nodes[child].visits >= 2 for tree in measuring for child in tree.nodes[0].children)
    assert max(tree.iterations for tree in grown if tree.task.split == "train") == 2


def test_models_load_in_plain_transformers(run: Path):
    tokenizer = AutoTokenizer.from_pretrained(run / "reward_model")
    assert tokenizer.chat_template
    model = AutoModelForSequenceClassification.from_pretrained(run / "reward_model")
    assert model.config.num_labels == 1 and model.score.weight.shape[0] == 1 and model.score.bias is None
    AutoModelForCausalLM.from_pretrained(run / "policy")
    assert not list(run.rglob("policy/*.bin")) and not list(run.rglob("reward_model/*.bin"))


def test_the_table_holds_every_method(run: Path, config: Config):
    rows = pq.read_table(run / "evaluation" / "episodes.parquet").to_pandas()
    methods = {
        "greedy",
        "sampled mean",
        "best of 2",
        "shortest of 2",
        "likeliest of 2",
        "majority of 2",
        "oracle best of 2",
        "beam 2x2",
        "beam 2x2, random scores",
        "beam 2x2, log-probability",
    }
    assert set(rows["method"]) == methods
    assert set(rows["group"]) == {"held-in", "held-out kinds"}
    assert (rows.groupby("method")["task"].nunique() == 5).all()
    wide = rows.pivot(index="task", columns="method", values="outcome")
    assert (wide["oracle best of 2"] >= wide["best of 2"]).all()
    assert (run / "evaluation" / "report.html").read_text().count("<table") >= 1


def test_a_second_run_changes_nothing(run: Path, config: Config):
    before = {
        path: path.stat().st_mtime_ns
        for stage in ("policy", "trees", "reward_model", "evaluation")
        for path in (run / stage).rglob("*")
    }
    pipeline.run(config)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_another_config_is_refused(run: Path, config: Config):
    with pytest.raises(UserError, match=r"trees\.iterations=2, not 3"):
        pipeline.run(changed(config, ["trees.iterations=3"]))


def test_versions_and_config_are_stored(run: Path, config: Config):
    assert load(str(run / "config.yaml")) == config
    assert "ray" in json.loads((run / "metrics" / "versions.json").read_text())


def test_stages_name_the_command_that_is_missing(tmp_path: Path):
    config = load(TINY, [f"run={tmp_path / 'fresh'}"])
    with pytest.raises(UserError, match="agentrm clone"):
        trees.run(config)
    with pytest.raises(UserError, match=r"agentrm (clone|trees)"):
        train.run(config)

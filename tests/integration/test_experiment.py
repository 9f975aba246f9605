"""An experiment on a real cluster and engines: its variants borrow from one base, and a second call goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agentrm.config.loading import changed, load
from agentrm.config.schema import Config
from agentrm.config.tasks import tasks
from agentrm.core.errors import UserError
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.models import explicit
from agentrm.models.initial import prepare
from agentrm.run import RunDirectory
from jobs import experiment

TINY = str(Path(__file__).with_name("tiny.yaml"))
KIND = "environment: babyai, kinds: [goto_obj]"
SMALL = [
    f"tasks.demonstrations=[{{{KIND}, count: 20}}]",
    f"tasks.trees=[{{{KIND}, count: 1}}]",
    f"tasks.held_in=[{{{KIND}, split: test, count: 2}}]",
    "tasks.held_out_kinds=[]",
    "evaluate.max_depth=3",
    "clone.epochs=1",
    "evaluate.strong=[clone.epochs=2]",
]
TEXT = "Your task: go to the red ball. You see: red ball 1 (1 forward). turn left"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run with a policy and a reward model that were never trained, and the one tree that it asks for."""
    run = tmp_path_factory.mktemp("experiment") / "run"
    config = load(TINY, [f"run={run}", *SMALL])
    directory = RunDirectory.open(config)
    with directory.writing("policy") as policy:
        prepare(config.model, [TEXT] * 9, 0, policy)
    explicit.build(directory.path("policy"), directory.path("reward_model"))
    (task,) = tasks(config.tasks.trees, config.tasks.seed)
    TreeStore(directory.path("trees")).write(Tree(task, [Node(-1, 0, "", visits=1, value=0.5)]))
    return config


@pytest.fixture(scope="module")
def rows(config: Config) -> list[dict]:
    return experiment.run(config, "weak-to-strong")


def test_the_strong_policy_is_its_own_and_the_reward_model_is_borrowed(config: Config, rows: list[dict]) -> None:
    base = Path(config.run)
    weak, strong = (base / "experiments" / "weak-to-strong" / "runs" / name for name in ("weak", "strong"))
    assert (weak / "policy").resolve() == base / "policy"
    assert (weak / "reward_model").resolve() == (strong / "reward_model").resolve() == base / "reward_model"
    assert not (strong / "policy").is_symlink() and not (strong / "trees").exists()
    results = pq.read_table(base / "experiments" / "weak-to-strong" / "results.parquet").to_pylist()
    assert len(results) == len(rows) == 2 * 10
    assert {(row["variant"], row["tasks"]) for row in rows} == {("weak", 2), ("strong", 2)}


def test_a_second_call_runs_only_what_is_missing(config: Config, rows: list[dict]) -> None:
    report = Path(config.run) / "experiments" / "weak-to-strong" / "report.md"
    stages = [report.parent / "runs" / name / "evaluation" for name in ("weak", "strong")]
    kept = [stage.stat().st_mtime_ns for stage in stages]
    report.unlink()
    # A number that is none is not equal to itself.
    assert repr(experiment.run(config, "weak-to-strong")) == repr(rows)
    assert kept == [stage.stat().st_mtime_ns for stage in stages]
    assert "In the paper" in report.read_text()
    assert json.loads((stages[1].parent / "metrics" / "evaluate.json").read_text())


def test_other_numbers_are_refused_before_anything_runs(config: Config, rows: list[dict]) -> None:
    with pytest.raises(UserError, match=r"runs/weak was made with evaluate\.n=2, not 3"):
        experiment.run(changed(config, ["evaluate.n=3"]), "weak-to-strong")

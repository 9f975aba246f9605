"""`agentrm train` end to end on trees made by hand: every kind of reward model, to the verified directory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from agentrm.config.loading import load as load_config
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.states import held_out
from agentrm.data.trees import TreeStore
from agentrm.models import ensemble, explicit, implicit
from agentrm.models.initial import prepare
from agentrm.models.plain import load
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from jobs import quality, train
from tests.reward_models import write_reward_model

TINY = str(Path(__file__).with_name("tiny.yaml"))
STEPS = 3


def tree(index: int) -> Tree:
    """One episode that goes up and succeeds, one that goes down and fails."""
    nodes = [Node(-1, 0, f"room {index}", visits=2, value=0.5)]
    for action, value in (("up", 1.0), ("down", 0.0)):
        parent = 0
        for depth in range(1, STEPS + 1):
            text = f"go {action}"
            nodes.append(Node(parent, depth, f"you went {action}", text, text=text, visits=1, value=value))
            parent = len(nodes) - 1
    return Tree(Task("babyai", "goto_obj", "train", index), nodes)


def trained(root: Path, *overrides: str) -> tuple[Path, dict]:
    """A run directory with a policy and trees, and what the training stage made of it."""
    config = load_config(TINY, [f"run={root}", "train.epochs=24", *overrides])
    directory = RunDirectory.open(config)
    with directory.writing("policy") as target:
        prepare(config.model, ["go up you went down room"] * 9, 0, target)
    store = TreeStore(directory.path("trees"))
    for index in range(24):
        store.write(tree(index))
    return directory.path("reward_model"), train.run(config)


def test_an_implicit_model_learns_and_finds_its_reference(tmp_path: Path) -> None:
    model, metrics = trained(tmp_path / "run", "train.kind=implicit", "train.beta=1")
    assert metrics["export_difference"] < 1e-3
    assert metrics["held_out"]["all"]["methods"]["reward model"]["siblings"]["value"] == 1
    assert not (tmp_path / "run" / "work" / "train").exists()
    kept = [each for each in map(tree, range(24)) if held_out(each.task, 0.3)]
    loaded = implicit.load(model, context=512)
    for each in kept:
        up, down = asyncio.run(loaded.score([each.state(STEPS), each.state(2 * STEPS)]))
        assert up > down
    AutoModelForCausalLM.from_pretrained(model)
    check_measured_again(tmp_path / "run", metrics)


def test_an_ensemble_holds_members_that_learned_in_another_order(tmp_path: Path) -> None:
    # Batches too small for all trees at once, or there is but one order.
    several = ("train.ensemble.members=2", "train.ensemble.penalty=0.5")
    overrides = (*several, "train.tokens_per_batch=64", "train.epochs=2")
    model, metrics = trained(tmp_path / "run", *overrides)
    members, penalty = ensemble.described(model)
    assert members == [model, model / "members" / "1"] and penalty == 0.5
    state = tree(0).state(STEPS)
    ids = Renderer.from_pretrained(model, 512).ids(state.conversation().messages)
    first, second = (
        explicit.raw_values(AutoModelForSequenceClassification.from_pretrained(each).eval(), [ids])[0]
        for each in members
    )
    assert first != second, "both learned in one order"
    assert load(model, 512)(state) == pytest.approx((first + second) / 2 - abs(first - second) / 4, abs=1e-6)
    methods = metrics["held_out"]["all"]["methods"]
    assert list(methods)[:2] == ["reward model", "first member"]
    assert "ensemble's 2 members" in (model / "README.md").read_text()
    assert all(list(each.glob("tensorboard/*")) for each in members)


def test_a_fit_goes_on_from_an_imported_model_which_is_measured_on_its_trees(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write_reward_model(tmp_path / "imported", ["go up you went down room"] * 9, 512)
    base = (f"train.base={tmp_path / 'imported'}", "train.representation.action_count=true", "train.epochs=1")
    model, _ = trained(root, *base, "train.learning_rate=1e-11")
    goes_on, value = load(model, 512), load(tmp_path / "imported", 512)
    states = [tree(0).state(node) for node in (0, STEPS, 2 * STEPS)]
    assert [goes_on(state) for state in states] == [pytest.approx(value(state), abs=1e-4) for state in states]
    found = measured(tmp_path / "imported", root, "reward_engine.kv_cache_gib=0.05")
    assert set(found) == {"unseen babyai", "unseen babyai.goto_obj"}
    kept = [each for each in map(tree, range(24)) if held_out(each.task, 0.3)]
    errors = [(value(each.state(i)) - node.value) ** 2 for each in kept for i, node in enumerate(each.nodes)]
    assert found["unseen babyai"]["mse"]["value"] == pytest.approx(np.mean(errors), rel=1e-3)
    with pytest.raises(UserError, match=r"all trees of .* are learned from"):
        quality.run(str(root), str(root), ["train.held_out_trees=0"])


def measured(model: Path, root: Path, *overrides: str) -> dict:
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "evaluate", "--json", *overrides]
    command += ["--reward-models", str(model), "--trees", str(root)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout)


def check_measured_again(root: Path, metrics: dict) -> None:
    """On engines a model orders and values the trees as it did at the end of its training."""
    expected, found = metrics["held_out"], measured(root, root)
    assert found.keys() == expected.keys()
    for name, group in found.items():
        assert group["mse"]["value"] == pytest.approx(expected[name]["mse"]["value"], abs=1e-3)
        ordered, before = (each["methods"]["reward model"]["siblings"] for each in (group, expected[name]))
        assert ordered == pytest.approx(before)

"""`agentrm train` on trees of episodes from elsewhere: no policy, no environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from agentrm.config.loading import load
from agentrm.core.errors import UserError
from agentrm.core.messages import ToolCall
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.states import held_out, samples
from agentrm.data.trees import TreeStore
from agentrm.evaluation import calibration
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from jobs import train

CONFIG = """
tasks: {demonstrations: [], trees: [], held_in: []}
model: {source: scratch, context: 512, scratch: {vocabulary: 400, hidden: 64, layers: 2, heads: 2}}
train: {base: model, epochs: 24, learning_rate: 5e-3, tokens_per_batch: 1024, held_out_trees: 0.3, checkpoints: 1}
intervals: {resamples: 100}
"""
LOOK_UP = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
STEPS = 2


def tree(kind: str, index: int) -> Tree:
    """Two logged episodes of one task, which call a tool and have their outcome; each turn was judged."""
    nodes = [Node(-1, 0, f"question {index}", visits=2, value=0.5)]
    for word, outcome in (("right", 1.0), ("wrong", 0.0)):
        parent = 0
        for depth in range(1, STEPS + 1):
            call = ToolCall(f"{word}{depth}", "look_up", json.dumps({"what": word}))
            ended = outcome if depth == STEPS else None
            nodes.append(
                Node(
                    parent,
                    depth,
                    f"{word} page",
                    call.name,
                    text=f"I look up the {word} page.",
                    calls=(call,),
                    visits=1,
                    value=outcome,
                    outcome=ended,
                    label=1 if outcome else -1,
                )
            )
            parent = len(nodes) - 1
    return Tree(Task("imported", kind, "train", index), nodes, tools=(LOOK_UP,))


def trained(root: Path, *overrides: str) -> tuple[Path, dict]:
    """A run directory that holds trees and nothing else, and what the fit made of it."""
    preset = root.with_suffix(".yaml")
    preset.write_text(f"run: {root}\n{CONFIG}")
    config = load(str(preset), overrides)
    directory = RunDirectory.open(config)
    store = TreeStore(directory.path("trees"))
    for index in range(24):
        store.write(tree("web" if index % 2 else "code", index))
    return directory.path("reward_model"), train.run(config)


BOTH = "train.labels.at=[state,action]"


def test_pairs_make_a_classifier_of_one_label_that_orders_held_out_states_and_actions(tmp_path: Path) -> None:
    overrides = BOTH, "train.loss=bradley_terry"
    model, metrics = trained(tmp_path / "run", *overrides)
    assert metrics["held_out"]["imported.web"]["auc"] > 0.9
    assert metrics["export_difference"] < 1e-4
    assert set(metrics["trees_learned"]) == {"imported.code", "imported.web"}
    config = load(str(tmp_path / "run.yaml"), overrides)
    labels = config.train.labels
    found = AutoModelForSequenceClassification.from_pretrained(model).eval()
    assert found.config.num_labels == 1
    assert found.config.agentrm_values == {
        "at": [end.value for end in labels.at],
        "of": labels.of.value,
        "loss": config.train.loss.value,
    }
    for name in ("all", "all, actions"):
        assert metrics["held_out"][name]["methods"]["reward model"]["siblings"]["value"] == 1
    # What is kept beside it makes probabilities of its values, as any program can.
    renderer = Renderer.from_pretrained(model, 512)
    kept = calibration.read(model)
    assert list(kept) == labels.at
    unseen = [each for each in (tree("web", index) for index in range(1, 24, 2)) if held_out(each.task, 0.3)]
    made = samples(unseen, renderer, labels)
    with torch.no_grad():
        values = [found(torch.tensor([made.sequences.beginning(i)])).logits.item() for i in range(len(made.owners))]
    for owner, value in zip(made.owners, values, strict=True):
        if owner.node:
            succeeds = owner.node <= STEPS
            assert (kept[owner.at]([value]).item() > 0.5) is succeeds, (owner, value)
    card = (model / "README.md").read_text()
    assert "- imported.web: " in card and "area under the ROC curve" in card
    assert ", actions" in card and "last token of that turn" in card


def test_what_there_is_nothing_of_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"environments holds imported\.mail, of which there is no tree"):
        trained(tmp_path / "run", "train.labels.environments=[imported.web,imported.mail]")
    with pytest.raises(UserError, match=r"policy is not there: run `agentrm clone` first, or name what to start from"):
        trained(tmp_path / "other", "train.base=policy")

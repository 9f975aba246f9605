from __future__ import annotations

import yaml

from agentrm.config.loading import load
from agentrm.config.schema import RewardKind
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import quality
from agentrm.reports.card import card

NODES = [Node(-1, 0, "", value=0.5), Node(0, 1, "", "a", value=0.9), Node(0, 1, "", "b", value=0.1)]
TREES = [Tree(Task("toy", "kind", "train", index), NODES) for index in range(3)]
METRICS = {
    "states": 12345,
    "held_out": quality(TREES, [{0: 0.9, 1: 0.1, 2: 0.7}] * 3, Settings(100, 0.9, 0), {"toy.kind"}),
}


def test_the_card_holds_data_figures_and_configuration() -> None:
    config = load("quickstart", ["train.learning_rate=0.125"])
    text = card(config, METRICS)
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["agentrm", "reward-model"],
    }
    assert "12,345 states" in body and "On 3 trees" in body
    for each in config.tasks.trees:
        assert f"- {each.environment}: {', '.join(each.kinds)}, {each.count} tasks" in body
    # By hand: of (a, root), (root, b) and (a, b) only the second is ordered rightly.
    assert "| **toy (3)** | **reward model** | **0.333 [0.333, 0.333]** | **0.000 [0.000, 0.000]** |" in body
    assert "not shown to beat random, length" in body
    assert "adds to each answer but the first turn how many actions were taken" in body
    settings = yaml.safe_load(body.partition("```yaml\n")[2].partition("```")[0])
    assert settings["learning_rate"] == 0.125
    assert "AutoModelForSequenceClassification" in body


def test_an_implicit_model_says_how_it_is_loaded() -> None:
    config = load("quickstart")
    config.train.kind = RewardKind.implicit
    config.train.representation.action_count = False
    text = card(config, METRICS)
    assert "pipeline_tag: text-generation" in text
    assert "agentrm.models.implicit import load" in text
    assert "how many actions" not in text

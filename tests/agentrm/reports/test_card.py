from __future__ import annotations

import pytest
import yaml

from agentrm.config.loading import load
from agentrm.config.schema import Loss, Overflow, RewardKind
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import quality
from agentrm.reports.card import card

NODES = [Node(-1, 0, "", value=0.5), Node(0, 1, "", "a", value=0.9), Node(0, 1, "", "b", value=0.1)]
TREES = [Tree(Task("toy", "kind", "train", index), NODES) for index in range(3)]
METRICS = {
    "states": 12345,
    "trees_learned": {"imported.web": 1000, "toy.kind": 7},
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
    assert "12,345 labels of states" in body and "On 3 trees" in body
    assert "- imported.web: 1,000 trees\n- toy.kind: 7 trees\n" in body
    assert "on the values of states, the mean outcome" in body
    assert "No value was learned at the end of the agent's turns" in body
    # By hand: of (a, root), (root, b) and (a, b) only the second is ordered rightly.
    assert "| **toy (3)** | **reward model** | **0.333 [0.333, 0.333]** | **0.000 [0.000, 0.000]** |" in body
    assert "not shown to beat random, length" in body
    assert "adds to each answer but the first turn how many actions were taken" in body
    settings = yaml.safe_load(body.partition("```yaml\n")[2].partition("```")[0])
    assert settings["learning_rate"] == 0.125
    assert "AutoModelForSequenceClassification" in body


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (Loss.squared, "A score estimates what was learned, from 0 to 1"),
        (Loss.cross_entropy, "its sigmoid estimates"),
        (Loss.bradley_terry, "the sigmoid of the difference of two"),
    ],
)
def test_the_card_says_what_a_value_means_and_where_it_stands(loss: Loss, told: str) -> None:
    config = load("quickstart", ["train.labels.at=[action,state]", f"train.loss={loss.value}"])
    text = card(config, METRICS)
    assert told in text and "numpy.interp(score, values, probabilities)" in text
    assert "or an action in a state, a conversation that ends with the agent's turn" in text
    assert "labels of actions and states" in text


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Overflow.refuse, "longer than the context of 1536 tokens has no score"),
        (Overflow.truncate_observations, "of 1536 tokens, AgentRM reads the environment's answers cut"),
        (Overflow.drop_middle, "of 1536 tokens, AgentRM leaves out the agent's earliest turns"),
    ],
)
def test_the_card_says_what_is_read_of_long_conversations(rule: Overflow, told: str) -> None:
    assert told in card(load("quickstart", [f"train.overflow={rule.value}"]), METRICS)


def test_an_implicit_model_says_how_it_is_loaded() -> None:
    config = load("quickstart")
    config.train.kind = RewardKind.implicit
    config.train.representation.action_count = False
    text = card(config, METRICS)
    assert "pipeline_tag: text-generation" in text
    assert "agentrm.models.implicit import load" in text
    assert "how many actions" not in text

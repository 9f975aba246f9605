from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from agentrm.config.schema import Model, Representation, Scratch
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import ModelError, UserError
from agentrm.models import ensemble, implicit
from agentrm.models.explicit import build, check, raw_values, verify
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer

STATES = [[1, 40, 41, 3], [1, 40, 41, 3, 2, 50, 3, 1, 60, 61, 62, 3]]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    model = Model(source="scratch", context=64, scratch=Scratch(vocabulary=300, hidden=64, layers=1, heads=2))
    prepare(model, ["go to the ball"] * 9, 0, tmp_path / "policy")
    return tmp_path / "policy"


@pytest.fixture
def untrained(policy: Path, tmp_path: Path) -> Path:
    build(policy, tmp_path / "untrained")
    return tmp_path / "untrained"


@pytest.fixture
def trained(untrained: Path) -> Path:
    weights = load_file(untrained / "model.safetensors")
    weights["score.weight"] = torch.linspace(-1, 1, 64)[None]
    save_file(weights, untrained / "model.safetensors", {"format": "pt"})
    return untrained


def scores(directory: Path) -> list[float]:
    return raw_values(AutoModelForSequenceClassification.from_pretrained(directory).eval(), STATES)


def test_build_keeps_the_backbone_and_adds_a_head_that_answers_zero(policy: Path, untrained: Path) -> None:
    before, after = load_file(policy / "model.safetensors"), load_file(untrained / "model.safetensors")
    head = after.pop("score.weight")
    assert head.shape == (1, 64)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert scores(untrained) == [0.0, 0.0]


def test_the_export_loads_as_a_regression_with_one_label(untrained: Path) -> None:
    config = AutoModelForSequenceClassification.from_pretrained(untrained).config
    assert (config.num_labels, config.problem_type, config.pad_token_id) == (1, "regression", 0)
    assert config.architectures == ["LlamaForSequenceClassification"]
    check(untrained)


REACT = [
    {"role": "user", "content": "the task"},
    {"role": "assistant", "content": "Thought: left is best\nAction: go left"},
    {"role": "user", "content": "a wall"},
]


@pytest.mark.parametrize(
    ("kept", "turns"),
    [
        (Representation(), ("Thought: left is best\nAction: go left", "a wall")),
        (Representation(thoughts=False), ("Action: go left", "a wall")),
        (Representation(actions=False), ("left is best", "a wall")),
        (Representation(observations=False), ("Thought: left is best\nAction: go left", "")),
        (Representation(thoughts=False, actions=False), ("", "a wall")),
        (Representation(action_count=True), ("Thought: left is best\nAction: go left", "a wall\nActions taken: 1")),
        (
            Representation(observations=False, action_count=True),
            ("Thought: left is best\nAction: go left", "Actions taken: 1"),
        ),
    ],
)
def test_the_model_is_shown_only_what_it_is_to_be_trained_on(
    policy: Path, tmp_path: Path, kept: Representation, turns: tuple[str, str]
) -> None:
    build(policy, tmp_path / "cut", kept, ActionFormat.react)
    # What any user of the export does keeps the key: the model is loaded and saved again.
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "cut").save_pretrained(tmp_path / "cut")
    cut = [REACT[0], *(message | {"content": turn} for message, turn in zip(REACT[1:], turns, strict=True))]
    expected = Renderer.from_pretrained(policy, 200).ids(cut)
    assert Renderer.from_pretrained(tmp_path / "cut", 200).ids(REACT) == expected


def test_its_chat_template_counts_actions_in_any_library(policy: Path, tmp_path: Path) -> None:
    build(policy, tmp_path / "counting", Representation(action_count=True), ActionFormat.react)
    last = [{"role": "assistant", "content": "Action: stop"}, {"role": "user", "content": ""}]
    conversation = [*REACT, *REACT[1:], *last]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "counting")
    text = tokenizer.apply_chat_template(conversation, tokenize=False)
    assert re.findall(r"(?:a wall\n|<\|user\|>)Actions taken: \d+<\|end\|>", text) == [
        "a wall\nActions taken: 1<|end|>",
        "a wall\nActions taken: 2<|end|>",
        "<|user|>Actions taken: 3<|end|>",
    ]
    plain = tokenizer.apply_chat_template(conversation, return_dict=True)["input_ids"]
    assert Renderer.from_pretrained(tmp_path / "counting", 500).ids(conversation) == plain


def test_verify_accepts_the_scores_of_the_weights(trained: Path) -> None:
    assert verify(trained, STATES, scores(trained)) == pytest.approx(0.0, abs=1e-6)


def test_verify_refuses_other_scores(trained: Path) -> None:
    with pytest.raises(ModelError, match="differ from those in training by"):
        verify(trained, STATES, [value + 1e-3 for value in scores(trained)])


def test_verify_refuses_constant_scores(untrained: Path) -> None:
    with pytest.raises(ModelError, match="gives every state the same score"):
        verify(untrained, STATES, [0.0, 0.0])


def test_check_misses_the_head(trained: Path) -> None:
    weights = load_file(trained / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, trained / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="holds no scalar head"):
        check(trained)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["model.safetensors"], "there are no safetensors"),
        (["tokenizer.json", "tokenizer_config.json"], "holds no tokenizer"),
        (["chat_template.jinja"], "holds no chat template"),
    ],
)
def test_check_misses_files(trained: Path, files: list[str], message: str) -> None:
    for name in files:
        (trained / name).unlink()
    with pytest.raises(ModelError, match=message):
        check(trained)


def test_build_keeps_a_trained_head(trained: Path, tmp_path: Path) -> None:
    build(trained, tmp_path / "next")
    before, after = load_file(trained / "model.safetensors"), load_file(tmp_path / "next" / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert scores(tmp_path / "next") == scores(trained)


def test_build_shows_a_reward_model_what_it_is_now_to_be_trained_on(policy: Path, tmp_path: Path) -> None:
    build(policy, tmp_path / "counting", Representation(action_count=True))
    build(tmp_path / "counting", tmp_path / "still counting", Representation(action_count=True, thoughts=False))
    build(tmp_path / "counting", tmp_path / "whole")
    templates = [
        AutoTokenizer.from_pretrained(tmp_path / each).chat_template for each in ("counting", "still counting")
    ]
    assert templates[0] == templates[1]
    expected = Renderer.from_pretrained(policy, 200).ids(REACT)
    assert Renderer.from_pretrained(tmp_path / "whole", 200).ids(REACT) == expected
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").apply_chat_template(REACT)["input_ids"] == expected


def test_build_takes_the_first_member_of_an_ensemble(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "second")
    shutil.copytree(tmp_path / "second", trained / "members" / "1")
    ensemble.describe(trained, 2, 0.5)
    build(trained, tmp_path / "next")
    assert scores(tmp_path / "next") == scores(trained)
    assert ensemble.described(tmp_path / "next") == ([tmp_path / "next"], 0.0)


def test_build_refuses_what_has_no_head_to_keep(policy: Path, trained: Path, tmp_path: Path) -> None:
    classifier = AutoModelForSequenceClassification.from_pretrained(policy, num_labels=3)
    classifier.save_pretrained(tmp_path / "classifier")
    with pytest.raises(UserError, match=r"train\.base is .*classifier of several labels"):
        build(tmp_path / "classifier", tmp_path / "out")
    implicit.copy(policy, tmp_path / "implicit")
    implicit.describe(tmp_path / "implicit", 0.5, "../policy")
    with pytest.raises(UserError, match=r"train\.base is .*an implicit reward model"):
        build(tmp_path / "implicit", tmp_path / "out")
    weights = load_file(trained / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, trained / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="disagree on whether it has a scalar head"):
        build(trained, tmp_path / "out")
    (trained / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"train\.base is .*no JSON object"):
        build(trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_build_names_an_absent_base(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.base is .*absent"):
        build(tmp_path / "absent", tmp_path / "out")

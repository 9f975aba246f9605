"""What the service scores with, on real engines: the values of transformers, whole, per step and per token, for each
kind of reward model and for one that others made.
"""

from __future__ import annotations

import asyncio
import json
import os
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Qwen2Config,
)

from agentrm import model_directory
from agentrm.config.schema import Engine, Model, Scratch
from agentrm.core.errors import ContextOverflow, InputRefused, ModelError, UserError
from agentrm.core.messages import Conversation
from agentrm.core.protocols import CostedValue
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.models import adapters, ensemble, explicit, implicit
from agentrm.models.explicit import build
from agentrm.models.initial import prepare
from agentrm.models.scorers import Input, Per, Text, Truncated, check, check_actions, open_scorer
from agentrm.rendering.renderer import Renderer
from tests.processes import in_new_process
from tests.reward_models import LLAMA3, LLAMA3_TOKENS, draw_head, write_policy

CONTEXT = 128
PENALTY = 0.5
STATE = (
    State.begin(Task("toy", "any", "train", 0), "go to the red ball")
    .extend(Proposal("turn left", "turn left"), Observation("a wall"))
    .extend(Proposal("go to ball", "go to ball"), Observation("the ball is near"))
)
CONVERSATION = STATE.conversation()
SHORT = Conversation(CONVERSATION.messages[:2])
LONG = Conversation([{"role": "user", "content": "ball " * CONTEXT}])
ACTED = Conversation([*CONVERSATION.messages, {"role": "assistant", "content": "done"}])
IDS = [5, 60, 7, 33]
TEXT = "<turn> go to the ball"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`policy`, and reward models: `explicit`, `implicit`, `imported`, whose config asks for a sigmoid and which pads
    with what ends its turns, `llama3`, whose padding is a token that its policy does not have, and `ensemble` of the
    first and another explicit one.
    """
    root = tmp_path_factory.mktemp("models")
    model = Model(source="scratch", context=CONTEXT, scratch=Scratch(vocabulary=300, hidden=64, layers=2, heads=2))
    prepare(model, ["go to the ball"] * 9, 0, root / "policy")
    tokenizer = Renderer.from_pretrained(root / "policy", CONTEXT).tokenizer
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_pretrained(root / "policy", num_labels=1, problem_type="regression")
    shape = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        num_labels=1,
        pad_token_id=tokenizer.eos_token_id,
    )
    imported = AutoModelForSequenceClassification.from_config(shape)
    for name, each in (("explicit", plain), ("imported", imported)):
        # Initial weights are so small that all values would agree by chance.
        torch.nn.init.normal_(each.score.weight, std=1.0)
        each.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    plain.save_pretrained(root / "ensemble")
    torch.nn.init.normal_(plain.score.weight, std=1.0)
    plain.save_pretrained(root / "ensemble" / "members" / "1")
    for each in (root / "ensemble", root / "ensemble" / "members" / "1"):
        tokenizer.save_pretrained(each)
    ensemble.describe(root / "ensemble", 2, PENALTY)
    write_policy(root / "llama3-policy", LLAMA3, LLAMA3_TOKENS, "<|eot_id|>", None)
    build(root / "llama3-policy", root / "llama3")
    draw_head(root / "llama3")
    implicit.copy(root / "policy", root / "implicit")
    trained = AutoModelForCausalLM.from_pretrained(root / "implicit")
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    trained.save_pretrained(root / "implicit")
    implicit.describe(root / "implicit", 0.5, "../policy")
    build(root / "policy", root / "classifier")
    for number in range(2):
        keep_adapter(root / "classifier", Path(ensemble.member(str(root / "adapters"), number)), number)
    ensemble.describe(root / "adapters", 2, PENALTY)
    return root


def keep_adapter(base: Path, directory: Path, seed: int) -> None:
    """A random adapter on the policy that lies beside `base`, a classifier made of it."""
    model = AutoModelForSequenceClassification.from_pretrained(base)
    config = LoraConfig(r=4, target_modules="all-linear", modules_to_save=["score"], task_type=TaskType.SEQ_CLS)
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=1.0 if "score" in name else 0.2)
    adapted.save_pretrained(str(directory))
    AutoConfig.from_pretrained(base).save_pretrained(directory)
    AutoTokenizer.from_pretrained(base).save_pretrained(directory)
    adapters.name_base(directory, os.path.relpath(base.parent / "policy", directory))


ASKED: list[tuple[list[Input], Per]] = [
    ([CONVERSATION, SHORT, IDS, Text(TEXT)], Per.input),
    ([CONVERSATION, SHORT], Per.step),
    ([IDS], Per.token),
    ([IDS], Per.step),
    ([[5, 10_000]], Per.input),
    ([IDS * CONTEXT], Per.input),
    ([IDS, [5, 60, 3, 3], [3, 3]], Per.input),
    ([ACTED, SHORT], Per.turn),
]
ASKED_LLAMA3: list[tuple[list[Input], Per]] = [
    ([CONVERSATION, SHORT], Per.input),
    (
        [
            Truncated(Text("go to"), 4),
            Truncated(Text("go to"), 4, "right"),
            Truncated(Text("go to"), 4, "left"),
            Truncated(Text("go to", special=False), 4),
            Truncated(Text("go to"), 7),
            Truncated(Text("go to"), 1),
            Truncated([5, 60, 7, 33], 2),
            Truncated([5, 60, 7, 33], 2, "left"),
            Truncated(LONG, -1),
            Truncated(LONG, -1, "left"),
        ],
        Per.input,
    ),
    ([Truncated([5, 60, 7, 33], 2, "left")], Per.token),
    ([Truncated(IDS, CONTEXT + 1)], Per.input),
]
ASKED_IMPLICIT: list[tuple[list[Input], Per]] = [
    ([CONVERSATION, SHORT], Per.input),
    ([CONVERSATION], Per.step),
    ([IDS], Per.input),
    ([LONG], Per.input),
    ([Truncated(CONVERSATION, 8)], Per.input),
    ([ACTED], Per.turn),
]
Answers = tuple[list[Any], list[float]]


def answer_all(root: Path) -> dict[str, Answers]:
    """What each scorer answers, or why it refuses; and how it ranks."""
    asked = {
        "explicit": ASKED,
        "imported": ASKED,
        "llama3": ASKED_LLAMA3,
        "implicit": ASKED_IMPLICIT,
        "ensemble": ASKED,
        "adapters": ASKED,
    }
    scorers = {name: open_scorer(root / name, Engine(kv_cache_gib=0.05), CONTEXT) for name in asked}

    async def ask(name: str) -> Answers:
        calls = (scorers[name].read(inputs, per) for inputs, per in asked[name])
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert scorers[name].alive
        return found, await scorers[name].rank([CONVERSATION, LONG, SHORT])

    async def ask_all() -> dict[str, Answers]:
        return dict(zip(asked, await asyncio.gather(*map(ask, asked)), strict=True))

    try:
        return asyncio.run(ask_all())
    finally:
        for scorer in scorers.values():
            scorer.close()


@pytest.fixture(scope="module")
def answers(root: Path) -> dict[str, Answers]:
    return in_new_process(answer_all, root)


@pytest.mark.parametrize("name", ["explicit", "imported"])
def test_a_scalar_head_scores_as_in_transformers(root: Path, answers: dict[str, Answers], name: str) -> None:
    found, ranked = answers[name]
    renderer = Renderer.from_pretrained(root / name, CONTEXT)
    model = AutoModelForSequenceClassification.from_pretrained(root / name).eval()

    def expected(ids: list[int]) -> float:
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits.item()

    rendered = renderer.render(CONVERSATION)
    whole = [rendered.ids, renderer.ids(SHORT), IDS, renderer.tokenizer(TEXT)["input_ids"]]
    values = [expected(ids) for ids in whole]
    assert max(values) - min(values) > 0.1
    assert min(values) < 0 or max(values) > 1, "a sigmoid would not show"
    assert [each.values for each in found[0]] == [pytest.approx([value], abs=1e-3) for value in values]
    assert [each.tokens for each in found[0]] == [len(ids) for ids in whole]
    steps = [expected(rendered.ids[: end + 1]) for end in rendered.states]
    assert found[1][0].values == pytest.approx(steps, abs=1e-3)
    assert found[1][1].values == pytest.approx(steps[:1], abs=1e-3)
    assert found[2][0].values == pytest.approx([expected(IDS[: i + 1]) for i in range(len(IDS))], abs=1e-3)
    assert [type(each) for each in found[3:6]] == [InputRefused, InputRefused, ContextOverflow]
    assert "10000 is not in the model's vocabulary" in str(found[4])
    assert found[6][0].values == pytest.approx(found[0][2].values, abs=1e-5)
    for ids, each in zip(ASKED[6][0], found[6], strict=True):
        assert each.values == pytest.approx([expected(ids)], abs=1e-3)
    assert ranked == pytest.approx([values[0], -inf, values[1]], abs=1e-3)
    # What nobody has answered yet has a value of its own, of the same pass.
    acted = renderer.ids(ACTED)
    assert found[7][0].values == pytest.approx([*steps, expected(acted)], abs=1e-3)
    assert found[7][0].tokens == len(acted) and found[7][1].values == pytest.approx([steps[0], values[1]], abs=1e-3)


def test_a_padding_token_of_its_own_changes_no_value_and_truncation_is_that_of_vllm(
    root: Path, answers: dict[str, Answers]
) -> None:
    found, ranked = answers["llama3"]
    model = AutoModelForSequenceClassification.from_pretrained(root / "llama3").eval()
    assert model.config.vocab_size == 256 + len(LLAMA3_TOKENS) + 1
    head = model.score.weight[0]

    def value(ids: list[int]) -> float:
        """The head's at the last token, whatever transformers reads."""
        with torch.inference_mode():
            return (model.base_model(torch.tensor([ids])).last_hidden_state[0, -1] @ head).item()

    renderer = Renderer.from_pretrained(root / "llama3-policy", 1000)
    whole = [value(renderer.ids(each)) for each in (CONVERSATION, SHORT)]
    assert [each.values for each in found[0]] == [pytest.approx([each], abs=1e-4) for each in whole]
    assert ranked == pytest.approx([whole[0], -inf, whole[1]], abs=1e-4)
    begin, end = 256, 259
    text, long = list(renderer.text_ids("go to", special=False)), renderer.ids(LONG)
    kept = [
        # vLLM's TokenizeParams on the same inputs.
        [begin, *text[:2], end],
        [begin, *text[:3]],
        [*text[2:], end],
        text[:4],
        [begin, *text, end],
        [begin],
        [5, 60],
        [7, 33],
        long[:CONTEXT],
        long[-CONTEXT:],
    ]
    assert [each.tokens for each in found[1]] == [len(ids) for ids in kept]
    assert [each.values for each in found[1]] == [pytest.approx([value(ids)], abs=1e-4) for ids in kept]
    assert found[2][0].values == pytest.approx([value([7]), value([7, 33])], abs=1e-4)
    assert isinstance(found[3], InputRefused) and f"the model's context is {CONTEXT}" in str(found[3])


def test_an_implicit_reward_model_scores_on_two_engines(root: Path, answers: dict[str, Answers]) -> None:
    found, ranked = answers["implicit"]
    steps = asyncio.run(implicit.load(root / "implicit", CONTEXT).step_scores(STATE))
    assert abs(steps[0] - steps[1]) > 1e-3
    assert found[0][0].values == pytest.approx([sum(steps)], abs=1e-3)
    assert found[0][1].values == pytest.approx([steps[0]], abs=1e-3)
    assert found[1][0].values == pytest.approx([0.0, steps[0], sum(steps)], abs=1e-3)
    assert [type(each) for each in found[2:5]] == [InputRefused, ContextOverflow, InputRefused]
    assert found[5][0].values[:3] == pytest.approx([0.0, steps[0], sum(steps)], abs=1e-3)
    assert len(found[5][0].values) == 4 and abs(found[5][0].values[3] - sum(steps)) > 1e-3
    assert ranked == pytest.approx([sum(steps), -inf, steps[0]], abs=1e-3)


def test_an_ensemble_scores_below_the_mean_of_its_members(root: Path, answers: dict[str, Answers]) -> None:
    found, ranked = answers["ensemble"]
    alone, _ = answers["explicit"]
    model = AutoModelForSequenceClassification.from_pretrained(root / "ensemble" / "members" / "1").eval()
    ids = Renderer.from_pretrained(root / "ensemble", CONTEXT).ids(CONVERSATION)
    with torch.inference_mode():
        second = model(torch.tensor([ids])).logits.item()
    first = alone[0][0].values[0]
    assert abs(first - second) > 0.1
    expected = (first + second) / 2 - PENALTY * abs(first - second) / 2
    assert found[0][0].values == pytest.approx([expected], abs=1e-3)
    assert found[0][0].tokens == len(ids)
    assert [len(each.values) for each in found[1]] == [len(each.values) for each in alone[1]]
    assert found[1][0].values[-1] == pytest.approx(expected, abs=1e-3)
    assert [type(each) for each in found[3:6]] == [InputRefused, InputRefused, ContextOverflow]
    assert ranked[:2] == pytest.approx([expected, -inf], abs=1e-3)
    assert isinstance(ranked[0], CostedValue) and ranked[0].tokens == 2 * len(ids)


def test_adapters_on_one_base_score_in_one_engine_as_merged(root: Path, answers: dict[str, Answers]) -> None:
    found, ranked = answers["adapters"]
    directories, _ = ensemble.described(root / "adapters")
    assert adapters.one_base(directories) == (root / "policy").resolve()
    check(root / "adapters")
    explicit.check(root / "adapters")
    renderer = Renderer.from_pretrained(root / "adapters", CONTEXT)
    whole = [renderer.ids(CONVERSATION), renderer.ids(SHORT), IDS, renderer.tokenizer(TEXT)["input_ids"]]
    values = [explicit.raw_values(adapters.load(each).eval(), whole) for each in directories]
    assert min(abs(one - other) for one, other in zip(*values, strict=True)) > 0.05
    expected = ensemble.lower_confidence(values, PENALTY)
    assert [each.values[0] for each in found[0]] == pytest.approx(expected, abs=1e-3)
    assert ranked == pytest.approx([expected[0], -inf, expected[1]], abs=1e-3)
    assert found[1][0].values[-1] == found[7][0].values[-2] == pytest.approx(expected[0], abs=1e-3)
    assert found[2][0].values[-1] == pytest.approx(expected[2], abs=1e-3)


def test_an_adapter_whose_base_is_gone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "base_model_name_or_path": "../gone"}')
    with pytest.raises(ModelError, match=r"an adapter of \.\./gone, which is not there"):
        adapters.base_of(tmp_path)


HEAD = {"architectures": ["LlamaForSequenceClassification"]}


@pytest.mark.parametrize(
    "labels", [{"num_labels": 1}, {"num_labels": 1, "id2label": None}, {"id2label": {"0": "value"}}]
)
def test_one_label_is_told_in_any_of_the_ways_of_transformers(tmp_path: Path, labels: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(HEAD | labels))
    check(tmp_path)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ([], "no JSON object"),
        (None, "no JSON object"),
        ("text", "no JSON object"),
        ({}, "names no class"),
        ({"architectures": None}, "names no class"),
        ({"architectures": []}, "names no class"),
        ({"architectures": [None]}, "names no class"),
        ({"architectures": "LlamaForSequenceClassification"}, "names no class"),
        (HEAD, "several labels; .* serve.label: LABEL_0, LABEL_1"),
        (HEAD | {"num_labels": 3}, "several labels"),
        (HEAD | {"num_labels": None}, "without labels"),
        (HEAD | {"id2label": {}}, "without labels"),
        (HEAD | {"id2label": {"0": "bad", "1": "good"}, "num_labels": 1}, "several labels; .*: bad, good"),
        (HEAD | {"id2label": {"1": "good"}}, "does not count from 0"),
        (HEAD | {"id2label": []}, "without labels"),
        (HEAD | {"num_labels": 1, "agentrm_ensemble": {}}, "needs members and penalty"),
        (HEAD | {"num_labels": 1, "agentrm_ensemble": []}, "needs members and penalty"),
        (HEAD | {"agentrm_implicit": None}, "needs beta and reference"),
        (HEAD | {"agentrm_implicit": {"beta": 1}}, "needs beta and reference"),
    ],
)
def test_a_config_that_describes_no_reward_model_is_refused(tmp_path: Path, config: Any, told: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=told):
        check(tmp_path)


@pytest.mark.parametrize("at", [["action"], ["state", "action"]])
def test_values_of_actions_are_taken_where_they_were_learned(tmp_path: Path, at: list[str]) -> None:
    learned = {"agentrm_values": {"at": at, "of": "values", "loss": "squared"}}
    (tmp_path / "config.json").write_text(json.dumps(HEAD | learned))
    check_actions(tmp_path)
    assert model_directory.learned_at(tmp_path) == at
    # By an implicit one an action has the value of the state that it leads to.
    (tmp_path / "config.json").write_text(json.dumps(HEAD | {"agentrm_implicit": {}}))
    check_actions(tmp_path)


@pytest.mark.parametrize(
    "values", [{}, {"agentrm_values": {"at": ["state"]}}, {"agentrm_values": {}}, {"agentrm_values": ["action"]}]
)
def test_values_of_actions_that_were_never_learned_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(HEAD | values))
    with pytest.raises(UserError, match=r"evaluate\.score=before_acting .* train\.labels\.at=\[state,action\]"):
        check_actions(tmp_path)


def test_what_is_no_reward_model_is_refused(root: Path, tmp_path: Path) -> None:
    for name in ("explicit", "imported", "llama3", "implicit", "ensemble"):
        check(root / name)
    with pytest.raises(ModelError, match="LlamaForCausalLM, not a reward model"):
        check(root / "policy")
    with pytest.raises(ModelError, match=r"config\.json"):
        check(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(root / "policy", num_labels=2).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="several labels"):
        check(tmp_path)
    check(tmp_path, "LABEL_1")
    with pytest.raises(ModelError, match="there is no label 'good'"):
        check(tmp_path, "good")

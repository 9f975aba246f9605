"""The implicit reward model: scores by the definition, in transformers and in vLLM, and an export that finds its
reference.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from agentrm.config.schema import Engine, Model, Scratch
from agentrm.core.errors import ModelError, UserError
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.models.explicit import build
from agentrm.models.implicit import (
    ImplicitRewardModel,
    TransformersTokenScorer,
    VllmTokenScorer,
    copy,
    describe,
    load,
    verify,
)
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer
from tests.processes import in_new_process

CONTEXT = 128
START = State.begin(Task("toy", "any", "train", 0), "go to the ball")
ONCE = START.extend(Proposal("turn left", "turn left"), Observation("a wall"))
TWICE = ONCE.extend(Proposal("go to ball", "go to ball"), Observation("the ball is near"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`policy`, and `reward_model`, whose weights differ a little."""
    root = tmp_path_factory.mktemp("run")
    model = Model(source="scratch", context=CONTEXT + 1, scratch=Scratch(vocabulary=300, hidden=64, layers=2, heads=2))
    prepare(model, ["go to the ball"] * 9, 0, root / "policy")
    copy(root / "policy", root / "reward_model")
    trained = AutoModelForCausalLM.from_pretrained(root / "reward_model")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    trained.save_pretrained(root / "reward_model")
    describe(root / "reward_model", 0.5, "../policy")
    return root


def by_definition(run: Path, state: State) -> list[float]:
    """beta times the log-ratio of each turn, its end included, by whole forward passes."""
    rendered = Renderer.from_pretrained(run / "policy", CONTEXT).render(state.conversation().messages)
    ids = torch.tensor([rendered.ids])
    logs = []
    for name in ("reward_model", "policy"):
        with torch.no_grad():
            found = AutoModelForCausalLM.from_pretrained(run / name)(ids).logits[0].log_softmax(-1)
        logs.append([0.0, *(found[i - 1, token].item() for i, token in enumerate(rendered.ids) if i)])
    steps: list[float] = []
    for index, token_written in enumerate(rendered.agent):
        if token_written:
            if not rendered.agent[index - 1]:
                steps.append(0.0)
            steps[-1] += 0.5 * (logs[0][index] - logs[1][index])
    return steps


def test_scores_are_the_definition_and_add_up(run: Path) -> None:
    model = load(run / "reward_model", CONTEXT)
    steps = by_definition(run, TWICE)
    assert len(steps) == 2 and abs(steps[0] - steps[1]) > 1e-3
    assert asyncio.run(model.step_scores(TWICE)) == pytest.approx(steps, abs=1e-4)
    too_long = State.begin(START.task, "ball " * CONTEXT)
    found = asyncio.run(model.score([START, TWICE, too_long, ONCE]))
    assert found == pytest.approx([0.0, sum(steps), -math.inf, steps[0]], abs=1e-4)


def vllm_scores(run: Path) -> list[float]:
    renderer = Renderer.from_pretrained(run / "policy", CONTEXT)
    engine = VllmTokenScorer(run / "reward_model", Engine(kv_cache_gib=0.05), CONTEXT)
    reference = TransformersTokenScorer(AutoModelForCausalLM.from_pretrained(run / "policy"))
    try:
        return asyncio.run(ImplicitRewardModel(engine, reference, renderer, 0.5).score([TWICE, ONCE, TWICE]))
    finally:
        engine.close()


def test_vllm_scores_as_transformers_does(run: Path) -> None:
    found = in_new_process(vllm_scores, run)
    expected = [sum(by_definition(run, state)) for state in (TWICE, ONCE, TWICE)]
    assert found == pytest.approx(expected, abs=1e-3)


def test_an_export_is_verified(run: Path) -> None:
    expected = [sum(by_definition(run, TWICE)), sum(by_definition(run, ONCE))]
    assert verify(run / "reward_model", CONTEXT, [TWICE, ONCE], expected) < 1e-4
    with pytest.raises(ModelError, match="differ from those in training"):
        verify(run / "reward_model", CONTEXT, [TWICE, ONCE], [value + 0.1 for value in expected])


def test_what_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no agentrm_implicit"):
        load(run / "policy", CONTEXT)
    shutil.copytree(run / "reward_model", tmp_path / "alone")
    with pytest.raises(ModelError, match=r"the reference of .*alone is .*policy"):
        load(tmp_path / "alone", CONTEXT)
    with pytest.raises(UserError, match=r"train\.base is .*absent"):
        copy(tmp_path / "absent", tmp_path / "out")


def test_a_reward_model_is_no_base_of_one(run: Path, tmp_path: Path) -> None:
    build(run / "policy", tmp_path / "explicit")
    for base, told in ((tmp_path / "explicit", "explicit"), (run / "reward_model", "implicit")):
        with pytest.raises(UserError, match=rf"train\.base is .*an {told} reward model"):
            copy(base, tmp_path / "out")

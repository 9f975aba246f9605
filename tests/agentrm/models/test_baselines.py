"""The local reward model on a real pooling engine against plain transformers, and the baselines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from agentrm.config.schema import Engine, Model, Scratch
from agentrm.core.errors import InputRefused
from agentrm.core.protocols import CostedValue
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.models.baselines import RandomScores, ShortestFirst, WithLikelihood, score_what_fits
from agentrm.models.engine import ScoringEngine
from agentrm.models.explicit import build, raw_values
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer
from tests.processes import in_new_process

CONTEXT = 128
START = State.begin(Task("toy", "any", "train", 0), "go to the ball")
LATER = START.extend(Proposal("go to ball", "go to ball", "", -1.0, 3, False), Observation("the ball is near"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    model = Model(source="scratch", context=CONTEXT, scratch=Scratch(vocabulary=300, hidden=64, layers=1, heads=2))
    prepare(model, ["go to the ball"] * 9, 0, root / "policy")
    build(root / "policy", root / "reward_model")
    weights = load_file(root / "reward_model" / "model.safetensors")
    weights["score.weight"] = torch.linspace(-1, 1, 64)[None]
    save_file(weights, root / "reward_model" / "model.safetensors", {"format": "pt"})
    return root / "reward_model"


def answers(directory: Path) -> tuple[list[float], str, list[float]]:
    """What fits of three states, why a longer request is refused, and the answer to the next one."""
    engine = ScoringEngine(directory, Engine(kv_cache_gib=0.05), CONTEXT)

    async def ask() -> tuple[list[float], str, list[float]]:
        too_long = State.begin(START.task, "ball " * CONTEXT)
        renderer = Renderer.from_pretrained(directory, CONTEXT)
        states = [state.conversation().messages for state in (START, too_long, LATER)]
        found = await score_what_fits(engine.score_ids, renderer, states)
        with pytest.raises(InputRefused) as refused:
            await engine.score_ids([[5] * (CONTEXT + 1)])
        return found, str(refused.value), await engine.score_ids([[5] * CONTEXT])

    try:
        return asyncio.run(ask())
    finally:
        engine.close()


@pytest.fixture(scope="module")
def answered(directory: Path) -> tuple[list[float], str, list[float]]:
    return in_new_process(answers, directory)


def test_scores_are_those_of_transformers_and_what_does_not_fit_ranks_last(
    directory: Path, answered: tuple[list[float], str, list[float]]
) -> None:
    found, _, _ = answered
    renderer = Renderer.from_pretrained(directory, CONTEXT)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    first, last = raw_values(model, [renderer.ids(state.conversation().messages) for state in (START, LATER)])
    assert found == [pytest.approx(first, abs=1e-4), -math.inf, pytest.approx(last, abs=1e-4)]
    assert abs(first - last) > 1e-3


def test_an_engine_outlives_what_it_refuses(answered: tuple[list[float], str, list[float]]) -> None:
    _, message, found = answered
    assert str(CONTEXT) in message
    assert len(found) == 1


def test_shorter_episodes_score_higher() -> None:
    assert asyncio.run(ShortestFirst().score([START, LATER])) == [0, -1]


class Knows:
    """A reward model whose every state costs 7 tokens, and which cannot read a state without steps."""

    async def score(self, states: Sequence[State]) -> list[float]:
        return [CostedValue(0.5, 7, 3) if state.steps else -math.inf for state in states]


def test_the_policys_likelihood_is_added_to_a_value_and_costs_nothing() -> None:
    later = LATER.extend(Proposal("left", "left", "", -2.0, 2, False), Observation("a wall"))
    unread, one, two = asyncio.run(WithLikelihood(Knows(), 0.1).score([START, LATER, later]))
    assert unread == -math.inf
    assert (one, two) == (pytest.approx(0.5 - 0.1), pytest.approx(0.5 - 0.3))
    assert isinstance(two, CostedValue) and (two.tokens, two.cached) == (7, 3)
    assert asyncio.run(WithLikelihood(Knows(), 0).score([later])) == [0.5]


def test_random_scores_depend_on_the_seed_and_the_state_alone() -> None:
    first, last = asyncio.run(RandomScores(0).score([START, LATER]))
    assert asyncio.run(RandomScores(0).score([LATER, START])) == [last, first]
    assert asyncio.run(RandomScores(1).score([START])) != [first]
    assert 0 <= first < 1 and 0 <= last < 1 and first != last

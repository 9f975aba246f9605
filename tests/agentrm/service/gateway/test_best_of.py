"""The best of given candidates, and the gateway's choice, by a reward model over plain transformers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from agentrm.config.schema import Serve
from agentrm.core.errors import UserError
from agentrm.core.messages import Conversation
from agentrm.models import explicit
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per
from agentrm.rendering.renderer import Renderer
from agentrm.service.api import create_app
from agentrm.service.client import AsyncScoringClient, ScoringClient
from agentrm.service.gateway.best_of import async_best_of, best_of
from tests.agentrm.service.gateway.upstream import ASKED, Endpoint, ask, gateway, texts
from tests.reward_models import write_reward_model
from tests.servers import serving

CONTEXT = 64
CANDIDATES = ["go to the ball", "look around", "wait", "open the door"]


class Model:
    """A reward model with random weights."""

    def __init__(self, directory: Path) -> None:
        self._model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
        self._renderer = Renderer.from_pretrained(directory, CONTEXT)

    async def score(self, inputs: list[Input], per: Per = Per.input) -> list[Reading]:
        ids = [self._renderer.ids(each) for each in inputs]
        values = explicit.raw_values(self._model, ids)
        return [Reading([value], len(each), 0) for value, each in zip(values, ids, strict=True)]

    async def values(self, conversations: list[Conversation]) -> list[float]:
        return [each.values[0] for each in await self.score(list(conversations))]

    async def healthy(self) -> bool:
        return True


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("models") / "reward"
    write_reward_model(path, [ASKED["messages"][0]["content"], *CANDIDATES], CONTEXT)
    return Model(path)


@pytest.fixture(scope="module")
def url(model: Model) -> Iterator[str]:
    with serving(create_app(model.score, model.healthy, Serve(), "tiny", CONTEXT)) as address:
        yield address


@pytest.fixture(scope="module")
def expected(model: Model) -> list[float]:
    ended = [[*ASKED["messages"], {"role": "assistant", "content": each}] for each in CANDIDATES]
    return asyncio.run(model.values([Conversation(each) for each in ended]))


def test_best_of_in_both_forms(url: str, expected: list[float]) -> None:
    assert len(set(expected)) == len(CANDIDATES)
    best = expected.index(max(expected))
    with ScoringClient(url) as client:
        found = best_of(CANDIDATES, ASKED["messages"], client)
        with pytest.raises(UserError, match="no candidate"):
            best_of([], ASKED["messages"], client)
    assert found.message == {"role": "assistant", "content": CANDIDATES[best]}
    assert found.chosen == best
    assert found.values == pytest.approx(expected)

    async def ask_async() -> object:
        async with AsyncScoringClient(url) as client:
            turns = [{"role": "assistant", "content": each} for each in CANDIDATES]
            return await async_best_of(turns, Conversation(ASKED["messages"]), client)

    assert asyncio.run(ask_async()) == found


def test_the_gateway_chooses_by_the_models_values(endpoint: Endpoint, model: Model, expected: list[float]) -> None:
    with gateway(endpoint, model.values, k=4) as client:
        endpoint.gives(*CANDIDATES)
        answer = ask(client)
        assert texts(answer) == [CANDIDATES[expected.index(max(expected))]]
        assert answer.json()["agentrm"]["values"] == pytest.approx(expected)
        endpoint.gives(*CANDIDATES)
        answer = ask(client, messages=[{"role": "user", "content": "go to the ball " * CONTEXT}])
        assert texts(answer) == CANDIDATES[:1]
        assert "context is 64" in answer.json()["agentrm"]["reason"]

"""The gateway on a real Ray Serve, a real vLLM engine beside it: its choices, and its answers while replicas die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from ray import serve
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from actors.gateway import gateway
from agentrm.config.schema import Cluster, Config, Engine, Gateway, Model
from agentrm.core.errors import ModelError, UserError
from tests.agentrm.service.gateway.upstream import ASKED, Endpoint, completion, texts
from tests.reward_models import write_reward_model
from tests.servers import free_port, serving

CONTEXT = 128
CANDIDATES = ["go to the ball", "look around", "wait", "open the door"]
KEY = {"Authorization": "Bearer the-gateways"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "reward"
    write_reward_model(path, [ASKED["messages"][0]["content"], *CANDIDATES], CONTEXT)
    return path


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.respond = lambda body: completion(*CANDIDATES[: body.get("n", 1)])
    with serving(endpoint.app) as address:
        endpoint.url = f"{address}/v1"
        yield endpoint


@pytest.fixture(scope="module")
def config(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config(
        run=str(tmp_path_factory.mktemp("run") / "a run"),
        model=Model(context=CONTEXT),
        reward_engine=Engine(kv_cache_gib=0.05),
        gateway=Gateway(upstream=endpoint.url, port=free_port(), api_key="the-gateways", scoring_s=5.0),
        cluster=Cluster(cpus=4, object_store_gib=0.1),
    )


@pytest.fixture(scope="module")
def replacing(config: Config, directory: Path) -> Iterator[Callable[[Path], None]]:
    with gateway(config, directory) as replacing:
        yield replacing
    assert not serve.status().applications


@pytest.fixture(scope="module")
def url(config: Config, replacing: Callable[[Path], None]) -> str:
    return f"http://127.0.0.1:{config.gateway.port}"


@pytest.fixture(scope="module")
def expected(directory: Path) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    values = []
    for each in CANDIDATES:
        messages = [*ASKED["messages"], {"role": "assistant", "content": each}]
        read = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            values.append(model(**read).logits.item())
    return values


def test_the_values_are_those_of_transformers(url: str, expected: list[float]) -> None:
    with httpx.Client(base_url=url, headers=KEY, timeout=180) as client:
        answer = client.post("/v1/chat/completions", json=ASKED)
        assert texts(answer) == [CANDIDATES[expected.index(max(expected))]]
        assert answer.json()["agentrm"]["values"] == pytest.approx(expected, abs=1e-3)
        assert client.post("/v1/chat/completions", json=ASKED, headers={"Authorization": "no"}).status_code == 401
        assert "agentrm_gateway_gain_count 1.0" in client.get("/metrics").text
        longer = [{"role": "user", "content": "go to the ball " * CONTEXT}]
        about = client.post("/v1/chat/completions", json=ASKED | {"messages": longer}).json()["agentrm"]
        assert about["degraded"] and "context" in about["reason"]


def test_a_run_that_is_served_is_not_served_twice(url: str, config: Config, directory: Path) -> None:
    with pytest.raises(UserError, match="already"), gateway(config, directory):
        pass


def test_while_the_reward_model_dies_every_request_is_answered(url: str) -> None:
    (pid,) = [
        each.pid
        for each in psutil.Process().children(recursive=True)
        if "ServeReplica" in (line := " ".join(each.cmdline())) and "ScoringReplica" in line
    ]

    async def load() -> list[bool]:
        async with httpx.AsyncClient(base_url=url, headers=KEY, timeout=180) as client:
            degraded: list[bool] = []

            async def one(until: float) -> None:
                while time.monotonic() < until:
                    answer = await client.post("/v1/chat/completions", json=ASKED)
                    assert answer.status_code == 200, answer.text
                    degraded.append(answer.json()["agentrm"]["degraded"])

            clients = asyncio.gather(*(one(time.monotonic() + 10) for _ in range(8)))
            await asyncio.sleep(1)
            psutil.Process(pid).kill()
            await clients
            until = time.monotonic() + 300
            while (await client.post("/v1/chat/completions", json=ASKED)).json()["agentrm"]["degraded"]:
                assert time.monotonic() < until
                await asyncio.sleep(1)
            return degraded

    degraded = asyncio.run(load())
    assert False in degraded and True in degraded


def test_another_reward_model_takes_the_place_of_the_one_that_serves_without_a_lost_request(
    url: str, replacing: Callable[[Path], None], directory: Path, expected: list[float], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        replacing(tmp_path / "nothing")
    other = AutoModelForSequenceClassification.from_pretrained(directory)
    with torch.no_grad():
        other.score.weight.neg_()
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(directory).save_pretrained(tmp_path / "other")

    async def load() -> list[float]:
        ended = asyncio.Event()
        values: list[float] = []

        async def one(client: httpx.AsyncClient) -> None:
            while not ended.is_set():
                answer = await client.post("/v1/chat/completions", json=ASKED)
                assert answer.status_code == 200, answer.text
                about = answer.json()["agentrm"]
                assert not about["degraded"], about
                # All of one model, whichever it is.
                values.append(about["values"][0])
                assert [abs(value) for value in about["values"]] == pytest.approx([abs(v) for v in expected], abs=1e-3)
                assert len({value * known > 0 for value, known in zip(about["values"], expected, strict=True)}) == 1

        async with httpx.AsyncClient(base_url=url, headers=KEY, timeout=180) as client:
            clients = asyncio.gather(*(one(client) for _ in range(4)))
            await asyncio.to_thread(replacing, tmp_path / "other")
            await asyncio.sleep(1)
            ended.set()
            await clients
        return values

    values = asyncio.run(load())
    assert values[0] == pytest.approx(expected[0], abs=1e-3)
    assert values[-1] == pytest.approx(-expected[0], abs=1e-3)

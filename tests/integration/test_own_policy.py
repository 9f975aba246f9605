"""A run's own policy behind vLLM's own server and the gateway: its calls of tools are those that it makes in this
process, and while its processes die every request is answered or refused.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from ray import serve
from transformers import AutoModelForCausalLM

from actors.gateway import gateway
from actors.policy_server import PREFIX
from agentrm.config.schema import Cluster, Config, Engine, Gateway, Model, Sampling, Scratch
from agentrm.core.actions import ActionFormat
from agentrm.core.messages import call_id
from agentrm.core.protocols import Policy
from agentrm.core.state import Proposal, State, joined
from agentrm.core.task import Task
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.registry import environment_class
from agentrm.models.endpoint import ChatEndpoint
from agentrm.models.initial import prepare
from agentrm.models.openai_policy import EndpointPolicy
from agentrm.models.policy import LanguageModelPolicy
from agentrm.models.transformers_generator import TransformersGenerator
from agentrm.rendering.renderer import Renderer
from agentrm.search.episode import Opening
from tests.reward_models import write_reward_model
from tests.servers import free_port

CONTEXT = 2048
MODEL = Model(source="scratch", context=CONTEXT, scratch=Scratch(vocabulary=512, hidden=64, layers=2, heads=2))
SAMPLING = Sampling(temperature=0.0, max_tokens=256)
TASK = Task("maze", "perfect_tiny", "train", 1)
OPENING = Opening(instructions=False, action_format=ActionFormat.tools)
ASKED: dict[str, Any] = {"model": "mine", "messages": [{"role": "user", "content": "So."}], "max_tokens": 8}
KEY = {"Authorization": "Bearer the-gateways"}
_BACK_S = 240.0
_CLIENTS = 8
_CLOSED = 0


def episode(pool: SessionPool) -> list[State]:
    """The states of an episode that is solved with two calls in a turn."""
    oracle = pool.expert_actions(TASK)
    states = [OPENING(TASK, pool.observe(TASK, ()))]
    for taken in range(0, len(oracle), 2):
        actions = oracle[taken : taken + 2]
        calls = [environment_class("maze").call(action) for action in actions]
        named = tuple(type(call)(call.name, call.arguments, call_id(taken + i)) for i, call in enumerate(calls))
        proposal = Proposal("So.", joined(actions), "So.", calls=named)
        observation = pool.observe(TASK, (*states[-1].actions, proposal.action))
        states.append(states[-1].extend(proposal, observation))
    return states


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny `policy` that has learned one episode by heart, and a `reward_model`."""
    directory = tmp_path_factory.mktemp("models")
    pool = SessionPool()
    last = episode(pool)[-1].conversation()
    pool.close()
    texts = [str(message) for message in last.messages] + [str(list(last.tools))]
    policy = directory / "policy"
    prepare(MODEL, texts * 4, 0, policy)
    (row,) = Renderer.from_pretrained(policy, CONTEXT).turns(last)
    ids, own = torch.tensor([row.ids]), torch.tensor([row.agent])
    model = AutoModelForCausalLM.from_pretrained(policy)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(ids, labels=torch.where(own, ids, -100)).loss
        if float(loss) < 0.003:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(policy)
    write_reward_model(directory / "reward_model", texts, CONTEXT)
    return directory


@pytest.fixture(scope="module")
def url(models: Path) -> Iterator[str]:
    """The gateway's address; a test cannot read the key that it makes for the policy's server, so it makes that."""
    config = Config(
        run=str(models / "mine"),
        model=MODEL,
        policy_engine=Engine(kv_cache_gib=0.1),
        reward_engine=Engine(kv_cache_gib=0.1),
        gateway=Gateway(port=free_port(), k=4, likelihood=0.05, api_key="the-gateways", scoring_s=5.0, deadline_s=60.0),
        cluster=Cluster(cpus=4, object_store_gib=0.1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda: "the-policys")
        with gateway(config, models / "reward_model", models / "policy"):
            yield config.gateway.url
    assert not serve.status().applications


async def played(policy: Policy) -> list[Proposal]:
    """The turns of an episode, one answer to each call."""
    pool = SessionPool()
    state, proposals = OPENING(TASK, pool.observe(TASK, ())), []
    while not state.done and len(proposals) < 20:
        (proposal,) = await policy.propose(state, 1, greedy=True)
        proposals.append(proposal)
        state = state.extend(proposal, pool.observe(TASK, (*state.actions, proposal.action)))
        assert len(state.steps[-1].answers) == max(len(proposal.calls), 1)
    assert pool.grade(TASK, state.actions).success
    pool.close()
    return proposals


def test_a_policy_calls_several_tools_in_a_turn_and_solves_its_task_here_behind_vllm_and_by_the_gateway(
    models: Path, url: str
) -> None:
    renderer = Renderer.from_pretrained(models / "policy", CONTEXT)
    generator = TransformersGenerator(models / "policy", SAMPLING, CONTEXT, renderer.stop_ids, "cpu")
    here = asyncio.run(played(LanguageModelPolicy(generator, renderer, ActionFormat.tools)))
    pool = SessionPool()
    assert [each.action for each in here] == [step.proposal.action for step in episode(pool)[-1].steps]
    pool.close()
    assert all(each.text == "So." and not each.malformed for each in here)
    for path, model, key in (
        (PREFIX, "mine", "the-policys"),
        ("", "mine", "the-gateways"),
        ("", "mine@best-of-2", "the-gateways"),
    ):
        endpoint = ChatEndpoint(f"{url}{path}/v1", model, key)

        async def remote(endpoint: ChatEndpoint = endpoint) -> list[Proposal]:
            return await played(EndpointPolicy(endpoint, SAMPLING, ActionFormat.tools))

        there = asyncio.run(remote())
        assert [(each.text, each.action) for each in there] == [(each.text, each.action) for each in here]
        assert [each.logprob for each in there] == pytest.approx([each.logprob for each in here], abs=0.02)


def test_the_best_of_several_turns_is_the_one_of_the_highest_value_and_likelihood(url: str) -> None:
    with httpx.Client(base_url=url, headers=KEY, timeout=180) as client:
        body = client.post("/v1/chat/completions", json=ASKED | {"temperature": 2.0}).json()
        about = body["agentrm"]
        assert sum(each["count"] for each in about["candidates"]) == 4 and len(about["candidates"]) > 1
        logprobs = [each["logprob"] for each in about["candidates"]]
        worth = [value + 0.05 * logprob for value, logprob in zip(about["values"], logprobs, strict=True)]
        assert max(logprobs) < 0 and about["chosen"] == worth.index(max(worth)) and not about["degraded"]
        assert body["choices"][0]["logprobs"] is None
        assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["mine", "mine@best-of-4"]
        assert client.post(f"{PREFIX}/v1/chat/completions", json=ASKED).status_code == 401
        assert client.post("/v1/chat/completions", json=ASKED, headers={"Authorization": "no"}).status_code == 401


@pytest.mark.parametrize("killed", ["EngineCore", "GatewayReplica"])
def test_while_a_process_dies_every_request_is_answered_or_refused(url: str, killed: str) -> None:
    def alive() -> list[int]:
        found = []
        for each in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                if killed in " ".join(each.cmdline()):
                    found.append(each.pid)
        return found

    async def load() -> Counter[int]:
        answers: Counter[int] = Counter()
        ended = asyncio.Event()

        async def one(client: httpx.AsyncClient) -> None:
            while not ended.is_set():
                try:
                    answers[(await client.post("/v1/chat/completions", json=ASKED)).status_code] += 1
                except httpx.TransportError:
                    answers[_CLOSED] += 1

        async with httpx.AsyncClient(base_url=url, headers=KEY, timeout=120) as client:
            clients = asyncio.gather(*(one(client) for _ in range(_CLIENTS)))
            await asyncio.sleep(1)
            (pid,) = alive()
            psutil.Process(pid).kill()
            until = time.monotonic() + _BACK_S
            while alive() in ([], [pid]):
                assert time.monotonic() < until, answers
                await asyncio.sleep(0.2)
            before = answers[200]
            while answers[200] < before + 20:
                assert time.monotonic() < until, answers
                await asyncio.sleep(0.2)
            ended.set()
            await clients
        return answers

    answers = asyncio.run(load())
    assert answers[200] and answers.keys() <= {_CLOSED, 200, 429, 500, 502, 503, 504}, answers
    # What the gateway itself had in hand when it died.
    assert answers[_CLOSED] <= (_CLIENTS if killed == "GatewayReplica" else 0), answers

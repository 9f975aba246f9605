"""The remote policy over real HTTP, against a server that runs a tiny model by transformers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from actors.policy import connect_policy, start_policy
from agentrm.config.loading import load
from agentrm.config.schema import Config, Model, Sampling, Scratch
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import ContextOverflow, ModelError, UserError
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.models import openai_policy
from agentrm.models.endpoint import ChatEndpoint
from agentrm.models.initial import prepare
from agentrm.models.openai_policy import EndpointPolicy
from agentrm.models.policy import Completion, LanguageModelPolicy
from agentrm.models.transformers_generator import TransformersGenerator
from agentrm.rendering.renderer import Renderer
from tests.servers import serving

CONTEXT = 128
SAMPLING = Sampling(temperature=0.8, top_p=0.9, max_tokens=8)
STATE = State.begin(Task("toy", "any", "train", 0), "go to the ball").extend(
    Proposal("turn left", "turn left"), Observation("a wall")
)


class Server:
    """Chat completions of vLLM's form; `limited` gives one choice at a time and no log-probabilities."""

    def __init__(self, directory: Path) -> None:
        self.renderer = Renderer.from_pretrained(directory, CONTEXT)
        self.generator = TransformersGenerator(directory, SAMPLING, CONTEXT, self.renderer.stop_ids, "cpu")
        self.requests: list[dict[str, Any]] = []
        self.limited = False
        self.failures = 0
        self.url = ""
        self.app = app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(body: dict[str, Any]) -> Any:
            self.requests.append(body)
            if self.failures:
                self.failures -= 1
                return JSONResponse({"error": {"message": "busy"}}, 503, {"Retry-After": "0"})
            if self.limited and body.get("logprobs"):
                return JSONResponse({"error": {"message": "logprobs are not supported"}}, 400)
            try:
                prompt = self.renderer.prompt(body["messages"])
            except ContextOverflow as error:
                return JSONResponse({"error": {"message": f"maximum context length: {error}"}}, 400)
            n = 1 if self.limited else body["n"]
            found = await self.generator.generate(prompt, n, body["temperature"] == 0, body["seed"])
            choices = [self.choice(index, each) for index, each in enumerate(found)]
            usage = {"prompt_tokens": 0, "completion_tokens": sum(each.tokens for each in found), "total_tokens": 0}
            return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices} | {
                "usage": usage
            }

    def choice(self, index: int, completion: Completion) -> dict[str, Any]:
        tokens = [
            {"token": "?", "logprob": completion.logprob / completion.tokens, "bytes": None, "top_logprobs": []}
        ] * completion.tokens
        return {
            "index": index,
            "message": {"role": "assistant", "content": self.renderer.decode(completion.ids)},
            "finish_reason": "stop",
            "logprobs": None if self.limited else {"content": tokens},
        }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("policy")
    model = Model(source="scratch", context=CONTEXT, scratch=Scratch(vocabulary=300, hidden=64, layers=2, heads=2))
    prepare(model, ["go to the ball"] * 9, 0, directory)
    server = Server(directory)
    with serving(server.app) as address:
        server.url = f"{address}/v1"
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.requests.clear()
    running.limited, running.failures = False, 0
    return running


def proposals(server: Server, *calls: dict[str, Any], state: State = STATE) -> list[list[Proposal]]:
    async def run() -> list[list[Proposal]]:
        policy = EndpointPolicy(ChatEndpoint(server.url, "m", "key", retries=2), SAMPLING, ActionFormat.bare)
        return [await policy.propose(state, **call) for call in calls]

    return asyncio.run(run())


def test_greedy_turns_are_those_of_the_same_model_here(server: Server) -> None:
    (remote,) = proposals(server, {"n": 3, "greedy": True})
    local = LanguageModelPolicy(server.generator, server.renderer, ActionFormat.bare)
    expected = asyncio.run(local.propose(STATE, 3, greedy=True))
    assert [each.text for each in remote] == [each.text for each in expected]
    assert remote[0].tokens == expected[0].tokens
    assert remote[0].logprob == pytest.approx(expected[0].logprob)
    assert [body["n"] for body in server.requests] == [1]


def test_sampled_turns_repeat_with_their_seed(server: Server) -> None:
    first, again, other = proposals(server, {"n": 4}, {"n": 4}, {"n": 4, "seed": 1})
    assert first == again != other
    assert len({each.text for each in first}) > 1
    (body, *_) = server.requests
    assert body["messages"] == STATE.conversation().messages
    assert (body["n"], body["temperature"], body["top_p"], body["max_tokens"]) == (4, 0.8, 0.9, 8)


def test_an_endpoint_that_can_do_less_is_asked_until_there_are_enough(server: Server) -> None:
    server.limited = True
    (found,) = proposals(server, {"n": 3})
    assert len(found) == 3 and all(each.logprob == 0.0 and each.tokens > 0 for each in found)
    assert ["logprobs" in body for body in server.requests] == [True, False, False, False]


def test_failures_are_tried_again_and_then_told(server: Server) -> None:
    server.failures = 2
    assert len(proposals(server, {"n": 2})[0]) == 2
    server.failures = 3
    with pytest.raises(ModelError, match="m did not answer"):
        proposals(server, {"n": 2})
    with pytest.raises(ContextOverflow):
        proposals(server, {"n": 1}, state=State.begin(STATE.task, "ball " * CONTEXT))


def test_a_directory_that_names_an_endpoint_is_a_policy(server: Server, tmp_path: Path) -> None:
    openai_policy.describe(tmp_path / "policy", server.url, "m")
    config = Config(run=str(tmp_path), sampling=SAMPLING, model=Model(source=server.url, name="m"))

    async def run() -> list[Proposal]:
        with start_policy(config, tmp_path / "policy") as replicas:
            return await connect_policy(
                config.model, config.sampling, config.seed, tmp_path / "policy", replicas
            ).propose(STATE, 2)

    assert len(asyncio.run(run())) == 2
    with pytest.raises(ModelError, match=r"endpoint\.json"):
        openai_policy.connect(tmp_path, config.model, SAMPLING, 0)


def test_an_endpoint_needs_a_name() -> None:
    with pytest.raises(UserError, match=r"model\.name"):
        load("quickstart", ["model.source=http://127.0.0.1:1/v1"])
    with pytest.raises(UserError, match=r"model\.name"):
        load("quickstart", ["model.name=m"])
    assert load("quickstart", ["model.source=http://127.0.0.1:1/v1", "model.name=m"]).model.name == "m"

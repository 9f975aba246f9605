"""The HTTP forms, and the limits that a real engine is too fast to reach: a full queue, a deadline, a dead engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from agentrm.config.schema import End, Serve
from agentrm.core.errors import ContextOverflow, ModelError
from agentrm.core.messages import Conversation
from agentrm.evaluation.calibration import Calibration
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per, Text, Truncated
from agentrm.service.api import Busy, create_app

BODY = {"conversations": [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]]}
MESSAGES = {"messages": BODY["conversations"][0]}


class Backend:
    """Answers when `answer` is set; counts what it was asked."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.asked: list[tuple[list[Input], Per]] = []
        self.failure: Exception | None = None
        self.alive = True

    async def score(self, inputs: list[Input], per: Per) -> list[Reading]:
        self.asked.append((inputs, per))
        await self.answer.wait()
        if self.failure:
            raise self.failure
        values = 1 if per is Per.input else 2
        return [Reading([float(number)] * values, tokens=10, cached=4, left_out=3) for number in range(len(inputs))]

    async def healthy(self) -> bool:
        return self.alive


def client(backend: Backend, **settings: object) -> httpx.AsyncClient:
    app = create_app(backend.score, backend.healthy, Serve(**settings), "a-model", context=16)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def test_a_full_queue_is_refused_and_takes_requests_again() -> None:
    backend = Backend()
    async with client(backend, max_queued_requests=2) as http:
        waiting = [asyncio.create_task(http.post("/v1/score", json=BODY)) for _ in range(2)]
        while len(backend.asked) < 2:
            await asyncio.sleep(0.01)
        refused = await http.post("/v1/score", json=BODY)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        backend.answer.set()
        for response in await asyncio.gather(*waiting):
            assert response.json() == {
                "model": "a-model",
                "scores": [0.0, 1.0],
                "at": ["state", "state"],
                "usage": {"prompt_tokens": 20, "cached_tokens": 8, "left_out_tokens": 6},
            }
        assert (await http.post("/v1/score", json=BODY)).status_code == 200


async def test_a_kept_conversation_is_continued() -> None:
    backend = Backend()
    backend.answer.set()
    tools = [{"type": "function", "function": {"name": "look"}}]
    said = [{"role": "assistant", "content": "look"}, {"role": "user", "content": "nothing"}]
    async with client(backend) as http:
        whole = {"messages": MESSAGES["messages"], "tools": tools}
        (name,) = (await http.post("/v1/score", json={"conversations": [whole], "keep": True})).json()["kept"]
        body = {"conversations": [{"after": name, "messages": said}], "keep": True}
        for _ in range(2):
            answer = await http.post("/v1/score", json=body)
            assert answer.status_code == 200 and answer.json()["kept"] != [name]
        (given,), _ = backend.asked[-1]
        assert isinstance(given, Conversation)
        assert given.messages == [*MESSAGES["messages"], *said] and list(given.tools) == tools
        unknown = await http.post("/v1/score", json={"conversations": [{"after": "x", "messages": said}]})
        assert unknown.status_code == 409 and "send it whole" in unknown.json()["error"]["message"]
        both = {"after": name, "messages": said, "tools": tools}
        assert (await http.post("/v1/score", json={"conversations": [both]})).status_code == 422


async def test_probabilities_are_those_of_the_end_that_was_learned() -> None:
    backend = Backend()
    backend.answer.set()
    known = {End.state: Calibration([0.0, 2.0], [0.25, 0.75])}
    app = create_app(backend.score, backend.healthy, Serve(), "a-model", 16, calibrations=known)
    asked = {"role": "user", "content": "hi"}
    acted = [asked, {"role": "assistant", "content": "ho"}]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http:

        async def scores(**body: object) -> object:
            answer = (await http.post("/v1/score", json=body)).json()
            return answer.get("scores") or answer["error"]["message"]

        # The second value of two is 1.0, half way from 0 to 2.
        assert await scores(**BODY, calibrated=True) == [0.25, 0.5]
        assert await scores(**BODY, calibrated=False) == [0.0, 1.0]
        assert await scores(**BODY, calibrated=True, per="step") == [[0.25, 0.25], [0.5, 0.5]]
        assert await scores(token_ids=[[1], [2]], calibrated=True) == [0.25, 0.5]
        told = "a-model has no calibration of actions: leave calibrated out for raw values"
        assert await scores(conversations=[[asked], acted], calibrated=True) == told
        assert await scores(messages=acted) == [0.0]
        assert await scores(conversations=[acted], calibrated=True, per="step") == [[0.25, 0.25]]


async def test_an_answer_says_of_what_its_values_are() -> None:
    backend = Backend()
    backend.answer.set()
    app = create_app(backend.score, backend.healthy, Serve(), "a-model", 16, learned=["state", "action"])
    asked = {"role": "user", "content": "hi"}
    acted = [asked, {"role": "assistant", "content": "ho"}]
    answered = [*acted, {"role": "tool", "content": "hm"}]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http:

        async def at(**body: object) -> object:
            return (await http.post("/v1/score", json=body)).json()["at"]

        assert await at(conversations=[[asked], acted, answered]) == ["state", "action", "state"]
        assert await at(messages=acted) == ["action"]
        # Steps end with the environment's turns, wherever the conversation does.
        assert await at(conversations=[acted], per="step") == ["state"]
        assert await at(token_ids=[[1], [2]]) == [None, None]
        (model,) = (await http.get("/v1/models")).json()["data"]
        assert model["learned"] == ["state", "action"]
    async with client(backend) as http:
        (model,) = (await http.get("/v1/models")).json()["data"]
        assert model["learned"] == []


async def test_a_request_past_its_deadline_is_504_and_frees_its_place() -> None:
    backend = Backend()
    async with client(backend, deadline_s=0.05, max_queued_requests=1) as http:
        for _ in range(2):
            response = await http.post("/v1/score", json=BODY)
            assert response.status_code == 504
            assert "0.05 s" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ContextOverflow("17 tokens, the context is 16"), 422),
        (Busy("the queue is full"), 429),
        (ModelError("all replicas died"), 503),
    ],
)
async def test_what_the_backend_refuses_is_told(failure: Exception, status: int) -> None:
    backend = Backend()
    backend.failure = failure
    backend.answer.set()
    async with client(backend) as http:
        response = await http.post("/v1/score", json=BODY)
    assert response.status_code == status
    assert response.json() == {"error": {"message": str(failure)}}
    assert ("Retry-After" in response.headers) == (status in (429, 503))


async def test_health_follows_the_engine() -> None:
    backend = Backend()
    async with client(backend, api_key="k") as http:
        assert (await http.get("/healthz")).status_code == 200
        backend.alive = False
        assert (await http.get("/healthz")).status_code == 503


async def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    backend = Backend()
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 1000
            yield b" " * 1000

    async with client(backend, max_conversations=10) as http:
        response = await http.post("/v1/score", content=endless())
    assert response.status_code == 413
    assert read <= 10 * 16 * 16 + 2000
    assert backend.asked == []


async def test_nothing_is_read_without_the_key() -> None:
    backend = Backend()
    read = []

    async def body():
        read.append(True)
        yield b"{}"

    async with client(backend, api_key="right") as http:
        response = await http.post("/v1/score", content=body(), headers={"Authorization": "Bearer wröng".encode()})
        assert response.status_code == 401
        backend.answer.set()
        right = await http.post("/v1/score", json=BODY, headers={"Authorization": "Bearer right"})
        assert right.status_code == 200
    assert read == []


async def asked(path: str, body: dict[str, Any]) -> tuple[Any, list[Input], Per]:
    """The answer to a request, and what the backend was asked."""
    backend = Backend()
    backend.answer.set()
    async with client(backend) as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    ((inputs, per),) = backend.asked
    return response.json(), inputs, per


async def test_scores_per_step() -> None:
    body, inputs, per = await asked("/v1/score", BODY | {"per": "step"})
    assert body["scores"] == [[0.0, 0.0], [1.0, 1.0]]
    assert (inputs, per) == ([Conversation(each) for each in BODY["conversations"]], Per.step)


async def test_token_ids() -> None:
    body, inputs, per = await asked("/v1/score", {"token_ids": [[1, 2], [3]]})
    assert body["scores"] == [0.0, 1.0]
    assert (inputs, per) == ([[1, 2], [3]], Per.input)


@pytest.mark.parametrize("path", ["/classify", "/pooling"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "<user> hi"}, [Text("<user> hi")]),
        ({"input": ["hi", "ho"], "add_special_tokens": False}, [Text("hi", False), Text("ho", False)]),
        ({"input": [1, 2]}, [[1, 2]]),
        ({"input": [[1, 2], [3]]}, [[1, 2], [3]]),
        (MESSAGES, [Conversation(MESSAGES["messages"], ())]),
        ({"input": ["hi", "ho"], "truncate_prompt_tokens": 3}, [Truncated(Text(each), 3) for each in ("hi", "ho")]),
        ({"input": [1, 2], "truncate_prompt_tokens": 1, "truncation_side": "left"}, [Truncated([1, 2], 1, "left")]),
        (
            {"messages": BODY["conversations"][0], "truncate_prompt_tokens": -1},
            [Truncated(Conversation(MESSAGES["messages"], ()), -1)],
        ),
    ],
)
async def test_the_inputs_of_vllm(path: str, body: dict[str, Any], expected: list[Input]) -> None:
    _, inputs, per = await asked(path, body)
    assert (inputs, per) == (expected, Per.input)


async def test_a_client_of_vllm_reads_raw_scores() -> None:
    # What verl sends and what it reads: output["data"][-1]["probs"][-1].
    body = {"model": "/models/rm", "input": "<user> hi", "activation": False, "unknown": 1}
    body |= {"truncate_prompt_tokens": None, "padding": "do_not_pad", "chat_template_kwargs": {}, "softmax": False}
    answer, *_ = await asked("/classify", body)
    assert answer["object"] == "list" and answer["id"].startswith("classify-") and answer["model"] == "a-model"
    assert answer["data"] == [{"index": 0, "label": "LABEL_0", "probs": [0.0], "num_classes": 1}]
    assert answer["usage"] == {"prompt_tokens": 10, "total_tokens": 10, "completion_tokens": 0}
    answer, *_ = await asked("/pooling", {"input": ["hi", "ho"]})
    assert answer["data"] == [{"index": i, "object": "pooling", "data": [float(i)]} for i in range(2)]
    answer, _, per = await asked("/pooling", {"input": "hi", "task": "token_classify"})
    assert (answer["data"][0]["data"], per) == ([[0.0], [0.0]], Per.token)


async def test_a_client_of_openrlhf_reads_rewards() -> None:
    answer, inputs, _ = await asked("/get_reward", {"query": ["hi", "ho"], "prompts": ["", ""], "labels": [None, None]})
    assert answer == {"rewards": [0.0, 1.0], "scores": [0.0, 1.0]}
    assert inputs == [Text("hi", special=False), Text("ho", special=False)]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/score", {}, "either conversations, messages or token_ids"),
        ("/v1/score", BODY | {"token_ids": [[1]]}, "either conversations, messages or token_ids"),
        ("/v1/score", {"token_ids": [[1]], "per": "step"}, "per step need conversations"),
        ("/v1/score", {"token_ids": [[-1]]}, "token_ids.0.0"),
        ("/v1/score", {"token_ids": [[True]]}, "token_ids.0.0"),
        ("/v1/score", {"conversations": [[{"role": "user", "content": "\ud800"}]]}, "holds half of a surrogate pair"),
        ("/classify", {"input": "hi", "use_activation": True}, "use_activation"),
        ("/classify", {"input": []}, "input"),
        ("/classify", {"model": "x"}, "either input or messages"),
        ("/classify", {"input": "hi", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ("/classify", {"input": "hi", "truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ("/classify", {"input": "hi", "truncate_prompt_tokens": 3, "truncation_side": "middle"}, "truncation_side"),
        ("/classify", {"input": "hi", "padding": "max_length"}, "padding"),
        ("/classify", {"input": "hi", "softmax": True}, "softmax"),
        ("/classify", MESSAGES | {"add_special_tokens": True}, "add_special_tokens"),
        ("/classify", MESSAGES | {"add_generation_prompt": True}, "add_generation_prompt"),
        ("/classify", MESSAGES | {"continue_final_message": True}, "continue_final_message"),
        ("/classify", MESSAGES | {"chat_template": "{{ messages }}"}, "chat_template"),
        ("/pooling", MESSAGES | {"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        ("/pooling", MESSAGES | {"tools": [{"type": "function"}]}, "tools"),
        ("/pooling", {"input": "hi", "dimensions": 1}, "dimensions"),
        ("/pooling", {"input": "hi", "encoding_format": "base64"}, "encoding_format"),
        ("/pooling", {"input": "hi", "task": "embed"}, "task"),
        ("/get_reward", {"query": "hi"}, "query"),
    ],
)
async def test_bad_forms_are_named(path: str, body: dict[str, Any], told: str) -> None:
    backend = Backend()
    backend.answer.set()
    async with client(backend) as http:
        response = await http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert told in json.dumps(response.json()["error"])
    assert backend.asked == []


async def test_a_score_that_is_no_number_is_an_error() -> None:
    async def broken(inputs: list[Input], per: Per) -> list[Reading]:
        return [Reading([float("nan")], 1, 0)]

    app = create_app(broken, Backend().healthy, Serve(), "a-model", context=16)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http:
        response = await http.post("/v1/score", json={"token_ids": [[1]]})
    assert response.status_code == 503
    assert "no number" in response.json()["error"]["message"]


async def test_metrics_count_what_was_done() -> None:
    backend = Backend()
    backend.answer.set()
    async with client(backend, api_key="k") as http:
        key = {"Authorization": "Bearer k"}
        await http.post("/v1/score", json=BODY, headers=key)
        await http.post("/v1/score", json={}, headers=key)
        await http.get("/secret-path", headers=key)
        assert (await http.get("/metrics")).status_code == 401
        text = (await http.get("/metrics", headers=key)).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['agentrm_requests_total{path="/v1/score",status="200"}'] == "1.0"
    assert lines['agentrm_requests_total{path="/v1/score",status="422"}'] == "1.0"
    assert lines['agentrm_requests_total{path="other",status="404"}'] == "1.0"
    assert lines['agentrm_request_seconds_count{path="/v1/score"}'] == "2.0"
    assert (lines["agentrm_states_total"], lines["agentrm_tokens_total"]) == ("2.0", "20.0")
    assert (lines["agentrm_cached_tokens_total"], lines["agentrm_queue"]) == ("8.0", "0.0")
    assert lines["agentrm_shortened_states_total"] == "2.0"
    assert "secret" not in text


async def test_the_page_and_its_examples_need_no_key() -> None:
    backend = Backend()
    backend.answer.set()
    async with client(backend, api_key="k") as http:
        assert (await http.get("/docs")).status_code == 200
        described = (await http.get("/openapi.json")).json()
        assert described["paths"]["/v1/score"]["post"]["security"]
        for path, name in (
            ("/v1/score", "ScoreRequest"),
            ("/classify", "ClassifyRequest"),
            ("/pooling", "PoolingRequest"),
            ("/get_reward", "RewardRequest"),
        ):
            for example in described["components"]["schemas"][name]["examples"]:
                response = await http.post(path, json=example, headers={"Authorization": "Bearer k"})
                assert response.status_code == 200, example

"""The gateway over real HTTP, in front of an endpoint over real HTTP: what is chosen, and what becomes of faults."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import Counter
from math import inf, nan
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, OpenAI

from agentrm.core.errors import ContextOverflow, ModelError
from agentrm.core.messages import Conversation
from tests.agentrm.service.gateway.upstream import (
    ASKED,
    Body,
    Endpoint,
    ask,
    completion,
    events,
    gateway,
    refusal,
    streamed,
    texts,
)
from tests.servers import free_port

ROOT = Path(__file__).parents[4]

IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]


def call(name: str, arguments: str, identity: str) -> Body:
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "tool_calls": [{"id": identity, "type": "function", "function": function}],
    }


def test_the_best_of_k_is_the_answer_and_says_between_what(endpoint: Endpoint) -> None:
    endpoint.gives("go", "look around", "go", "wait")
    with gateway(endpoint, k=4) as client:
        answer = ask(client, temperature=0.7, metadata={"a": "b"}, stop=["x"])
    assert endpoint.requests == [ASKED | {"temperature": 0.7, "metadata": {"a": "b"}, "stop": ["x"], "n": 4}]
    assert texts(answer) == ["look around"]
    body = answer.json()
    assert body["choices"][0]["index"] == 0
    assert body["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 8,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    about = body["agentrm"]
    assert [(each["message"]["content"], each["count"]) for each in about["candidates"]] == [
        ("go", 2),
        ("look around", 1),
        ("wait", 1),
    ]
    assert (about["values"], about["chosen"], about["tokens"]) == ([2.0, 11.0, 4.0], 1, 8)
    assert (about["degraded"], about["reason"]) == (False, None)
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-agentrm-")}
    assert told == {
        "x-agentrm-candidates": "3",
        "x-agentrm-chosen": "1",
        "x-agentrm-value": "11",
        "x-agentrm-tokens": "8",
        "x-agentrm-degraded": "false",
    }


def test_calls_are_equal_by_name_and_arguments_whatever_their_ids(endpoint: Endpoint) -> None:
    endpoint.gives(
        call("move", '{"x": 1, "y": 2}', "1"), call("move", '{"y":2,"x":1}', "2"), call("move", '{"x": 2}', "3")
    )
    seen: list[Conversation] = []

    async def score(conversations: list[Conversation]) -> list[float]:
        seen.extend(conversations)
        return [0.0, 1.0]

    tools = [{"type": "function", "function": {"name": "move", "parameters": {"type": "object"}}}]
    with gateway(endpoint, score, k=3) as client:
        answer = ask(client, tools=tools, tool_choice="required")
    body = answer.json()
    assert [each["count"] for each in body["agentrm"]["candidates"]] == [2, 1]
    assert body["choices"][0]["message"] == call("move", '{"x": 2}', "3")
    assert endpoint.requests[0]["tool_choice"] == "required"
    assert list(seen[0].tools) == tools
    assert seen[1].messages[-1]["tool_calls"][0]["function"] == {"name": "move", "arguments": '{"x": 2}'}


def test_n_gets_the_n_best_in_order_and_repeats_what_came_often(endpoint: Endpoint) -> None:
    with gateway(endpoint, k=4) as client:
        endpoint.gives("go", "look around", "go", "wait")
        assert texts(ask(client, n=2)) == ["look around", "wait"]
        endpoint.gives("go", "look around", "go", "go", "wait")
        answer = ask(client, n=5)
        assert texts(answer) == ["look around", "wait", "go", "go", "go"]
        assert [each["index"] for each in answer.json()["choices"]] == [0, 1, 2, 3, 4]


def test_k_by_header_by_name_and_by_configuration(endpoint: Endpoint) -> None:
    endpoint.respond = lambda body: completion(*["look"] * body.get("n", 1))
    with gateway(endpoint, k=2, max_k=6) as client:
        ask(client)
        ask(client, model="m@best-of-5")
        ask(client, {"x-agentrm-k": "3"}, model="m@best-of-5")
        ask(client, {"x-agentrm-k": "1"})
        assert [(each["model"], each.get("n")) for each in endpoint.requests] == [
            ("m", 2),
            ("m", 5),
            ("m", 3),
            ("m", None),
        ]
        for headers, fields in (
            ({"x-agentrm-k": "7"}, {}),
            ({"x-agentrm-k": "0"}, {}),
            ({"x-agentrm-k": "many"}, {}),
            ({}, {"model": "m@best-of-7"}),
            ({}, {"n": 7}),
        ):
            assert ask(client, headers, **fields).status_code == 422
        assert len(endpoint.requests) == 4
        names = [each["id"] for each in client.get("/v1/models").json()["data"]]
        assert names == ["m", "m@best-of-2"]


@pytest.mark.parametrize("way", ["refused", "ignored"])
def test_an_endpoint_that_gives_one_choice_at_a_time_is_asked_singly(endpoint: Endpoint, way: str) -> None:
    said = iter(["go", "look around", "wait", "go", "look", "wait"])

    def respond(body: Body) -> Any:
        return refusal("n must be 1", 400) if way == "refused" and "n" in body else completion(next(said))

    endpoint.respond = respond
    with gateway(endpoint, k=3) as client:
        answer = ask(client, seed=10)
        assert texts(answer) == ["look around"]
        assert answer.json()["usage"]["prompt_tokens"] == 15
        first = len(endpoint.requests)
        assert first == (4 if way == "refused" else 3)
        assert texts(ask(client, seed=10)) == ["look"]
    assert sorted(each["seed"] for each in endpoint.requests[first:]) == [10, 11, 12]
    assert not any("n" in each for each in endpoint.requests[first:])


def with_logprobs(body: Body, *logprobs: float | None) -> Body:
    """A completion whose choices have these log-probabilities in two tokens, where they are asked for."""
    for choice, logprob in zip(body["choices"], logprobs, strict=True):
        if logprob is not None:
            tokens = [{"token": "a", "logprob": logprob - 0.25}, {"token": "b", "logprob": 0.25}]
            choice["logprobs"] = {"content": tokens}
    return body


def test_values_count_beside_the_likelihood(endpoint: Endpoint) -> None:
    endpoint.respond = lambda body: with_logprobs(completion("go", "look around", "wait"), -1.0, -5.0, -2.0)
    with gateway(endpoint, k=3, likelihood=4.0) as client:
        answer = ask(client)
        assert endpoint.requests == [ASKED | {"n": 3, "logprobs": True}]
        assert texts(answer) == ["go"]
        about = answer.json()["agentrm"]
        assert about["values"] == [2.0, 11.0, 4.0]
        assert [each["logprob"] for each in about["candidates"]] == [-1.0, -5.0, -2.0]
        assert answer.json()["choices"][0]["logprobs"] is None
        # What the caller asked for is the caller's.
        shown = ask(client, logprobs=True, n=2).json()["choices"]
        assert [each["message"]["content"] for each in shown] == ["go", "wait"]
        assert [len(each["logprobs"]["content"]) for each in shown] == [2, 2]
    with gateway(endpoint, k=3, likelihood=1.0) as client:
        assert texts(ask(client)) == ["look around"]


@pytest.mark.parametrize("way", ["refused", "left out", "of some"])
def test_without_likelihoods_of_all_the_values_decide(endpoint: Endpoint, way: str) -> None:
    def respond(body: Body) -> Any:
        if way == "refused" and "logprobs" in body:
            return refusal("logprobs is not supported", 400)
        return with_logprobs(completion("go", "look around"), *((-1.0, None) if way == "of some" else (None, None)))

    endpoint.respond = respond
    with gateway(endpoint, k=2, likelihood=100.0) as client:
        assert texts(ask(client)) == ["look around"]
        first = len(endpoint.requests)
        assert first == (2 if way == "refused" else 1)
        assert texts(ask(client)) == ["look around"]
    assert ["logprobs" in each for each in endpoint.requests[first:]] == [way != "refused"]


def test_the_gate_takes_the_first_candidate_that_is_good_enough(endpoint: Endpoint) -> None:
    with gateway(endpoint, k=4, gate=4.0) as client:
        endpoint.gives("look")
        assert ask(client).json()["agentrm"]["values"] == [4.0]
        assert endpoint.requests == [ASKED]
        endpoint.gives("go", "go", "look around", "wait")
        answer = ask(client)
    assert texts(answer) == ["look around"]
    assert answer.json()["agentrm"]["values"] == [2.0, 11.0, 4.0]
    assert [each.get("n") for each in endpoint.requests] == [None, None, 3]


def test_a_budget_of_tokens_bounds_the_candidates(endpoint: Endpoint) -> None:
    endpoint.respond = lambda body: completion(*["look"] * body.get("n", 1))
    with gateway(endpoint, k=8, tokens=30) as client:
        ask(client, max_tokens=10)
        # As long as the request allows, three fit; of those that came, of 2 tokens each, two more.
        assert [each.get("n") for each in endpoint.requests] == [3, 2]
        endpoint.requests.clear()
        assert ask(client).json()["agentrm"]["tokens"] == 16
        # The first says how long they are.
        assert [each.get("n") for each in endpoint.requests] == [None, 7]
        endpoint.requests.clear()
        assert ask(client, max_completion_tokens=100).json()["agentrm"]["tokens"] == 2
        assert len(endpoint.requests) == 1


def test_after_its_seconds_a_request_makes_do_with_what_is_there(endpoint: Endpoint) -> None:
    came = 0

    async def respond(body: Body) -> Any:
        nonlocal came
        if "n" in body:
            return refusal("no n", 400)
        came += 1
        await asyncio.sleep(0.05 if came <= 2 else 4)
        return completion("look" if came == 1 else "go")

    endpoint.respond = respond
    started = time.monotonic()
    with gateway(endpoint, k=3, seconds=1.0) as client:
        answer = ask(client)
        assert time.monotonic() - started < 3
        assert texts(answer) == ["look"]
        assert answer.json()["agentrm"]["values"] == [4.0, 2.0]


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    ("status", "headers"), [(400, {}), (401, {"www-authenticate": "Bearer"}), (429, {"retry-after": "7"}), (500, {})]
)
def test_what_the_upstream_refuses_is_passed_on(
    endpoint: Endpoint, k: int, status: int, headers: dict[str, str]
) -> None:
    endpoint.respond = lambda body: refusal("not so", status, headers)
    with gateway(endpoint, k=k) as client:
        for stream in (False, True):
            answer = ask(client, stream=stream)
            assert answer.status_code == status
            assert answer.json() == {"error": {"message": "not so", "code": "theirs"}}
            assert headers.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("k", [1, 3])
def test_an_upstream_that_is_not_there_or_hangs_is_told(endpoint: Endpoint, k: int) -> None:
    async def hang(body: Body) -> Any:
        await asyncio.sleep(5)

    endpoint.respond = hang
    nowhere = Endpoint()
    nowhere.url = f"http://127.0.0.1:{free_port()}/v1"
    for stream in (False, True):
        with gateway(nowhere, k=k) as client:
            assert ask(client, stream=stream).status_code == 502
            assert client.get("/v1/models").status_code == 502
        with gateway(endpoint, k=k, deadline_s=0.1) as client:
            answer = ask(client, stream=stream)
            assert answer.status_code == 504
            assert "0.1 s" in answer.json()["error"]["message"]


async def down(conversations: list[Conversation]) -> list[float]:
    raise ModelError("all replicas died")


async def slow(conversations: list[Conversation]) -> list[float]:
    await asyncio.sleep(20)
    return []


async def overflowing(conversations: list[Conversation]) -> list[float]:
    raise ContextOverflow("17 tokens, the context is 16")


async def too_long(conversations: list[Conversation]) -> list[float]:
    return [-inf] * len(conversations)


async def undefined(conversations: list[Conversation]) -> list[float]:
    return [nan] * len(conversations)


async def broken(conversations: list[Conversation]) -> list[float]:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (down, "all replicas died"),
        (slow, "no values within 0.2 s"),
        (overflowing, "the context is 16"),
        (too_long, "longer than the reward model's context"),
        (undefined, "no number"),
        (broken, "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("gate", [None, 1.0])
def test_without_values_the_first_candidate_is_the_answer(
    endpoint: Endpoint, score: Any, why: str, gate: float | None
) -> None:
    endpoint.gives("go", "look around")
    with gateway(endpoint, score, k=2, scoring_s=0.2, gate=gate) as client:
        answer = ask(client)
        metrics = client.get("/metrics").text
    assert texts(answer) == ["go"]
    about = answer.json()["agentrm"]
    assert about["degraded"] is True and why in about["reason"]
    assert about["values"] == [None] * (2 if gate is None else 1)
    assert answer.headers["x-agentrm-degraded"] == "true"
    assert "x-agentrm-value" not in answer.headers
    assert "agentrm_gateway_degraded_total 1.0" in metrics


def test_what_no_reward_model_reads_is_no_reason_to_fail(endpoint: Endpoint) -> None:
    with gateway(endpoint, k=2) as client:
        endpoint.gives("go", "look around")
        about = ask(client, messages=IMAGE).json()["agentrm"]
        assert about["degraded"] and "image_url" in about["reason"]
        # Of the candidates only one cannot be read: half a character, as of a token cut in two.
        endpoint.gives("look \ud83d around", "go")
        answer = ask(client)
        assert texts(answer) == ["go"]
        assert answer.json()["agentrm"]["values"] == [None, 2.0]
        assert answer.json()["agentrm"]["candidates"][0]["message"]["content"] == "look \ud83d around"


def test_too_many_that_wait_are_sent_away_and_come_again(endpoint: Endpoint) -> None:
    gone = threading.Event()

    async def respond(body: Body) -> Any:
        while not gone.is_set():
            await asyncio.sleep(0.01)
        return streamed(events("go")) if body.get("stream") else completion("go", "wait")

    endpoint.respond = respond
    with gateway(endpoint, k=2, max_queued_requests=2) as client:
        kept: list[httpx.Response] = []
        fields: list[Body] = [{}, {"model": "m@best-of-1", "stream": True}]
        threads = [threading.Thread(target=lambda one=one: kept.append(ask(client, **one))) for one in fields]
        for thread in threads:
            thread.start()
        while len(endpoint.requests) < 2:
            time.sleep(0.01)
        refused = ask(client)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        gone.set()
        for thread in threads:
            thread.join()
        assert [each.status_code for each in kept] == [200, 200]
        assert ask(client).status_code == 200


def test_a_stream_with_nothing_to_choose_from_is_passed_through_as_it_comes(endpoint: Endpoint) -> None:
    go_on = threading.Event()
    parts = events("look ", "around")

    async def respond(body: Body) -> Any:
        async def body_of() -> Any:
            yield parts[0]
            while not go_on.is_set():
                await asyncio.sleep(0.01)
            for part in parts[1:]:
                yield part

        response = streamed([])
        response.body_iterator = body_of()
        return response

    endpoint.respond = respond
    with (
        gateway(endpoint, k=1) as client,
        client.stream("POST", "/v1/chat/completions", json=ASKED | {"stream": True}) as answer,
    ):
        coming = answer.iter_raw()
        assert next(coming) == parts[0]
        go_on.set()
        assert b"".join(coming) == b"".join(parts[1:])
    assert endpoint.requests == [ASKED | {"stream": True}]


def test_a_client_that_leaves_its_stream_leaves_its_place(endpoint: Endpoint) -> None:
    async def respond(body: Body) -> Any:
        async def endless() -> Any:
            while True:
                yield b": nothing yet\n\n"
                await asyncio.sleep(0.01)

        response = streamed([])
        response.body_iterator = endless()
        return response

    endpoint.respond = respond
    with gateway(endpoint, k=1, max_queued_requests=1) as client:
        with client.stream("POST", "/v1/chat/completions", json=ASKED | {"stream": True}) as answer:
            next(answer.iter_raw())
        until = time.monotonic() + 5
        while "agentrm_gateway_queue 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_stream_that_breaks_off_says_so(endpoint: Endpoint) -> None:
    def respond(body: Body) -> Any:
        response = streamed(events("look")[:2])
        response.headers["content-length"] = "100000"
        return response

    endpoint.respond = respond
    with gateway(endpoint, k=1) as client:
        client = OpenAI(base_url=f"{client.base_url}/v1", api_key="k", max_retries=0)
        with pytest.raises(APIError, match="broke off"):
            list(client.chat.completions.create(**ASKED, stream=True))


def test_the_openai_client_reads_a_streamed_winner(endpoint: Endpoint) -> None:
    chosen = call("move", '{"x": 2}', "3") | {"content": "then go", "reasoning_content": "hm"}
    endpoint.gives("go", chosen)
    with gateway(endpoint, k=2) as client:
        openai = OpenAI(base_url=f"{client.base_url}/v1", api_key="k")
        stream = openai.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
        *chunks, last = list(stream)
    deltas = [each.choices[0].delta for each in chunks]
    assert "".join(each.content or "" for each in deltas) == "then go"
    (made,) = [each.tool_calls[0] for each in deltas if each.tool_calls]
    assert (made.index, made.id, made.function.name, made.function.arguments) == (0, "3", "move", '{"x": 2}')
    assert deltas[0].reasoning_content == "hm"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].agentrm["values"] == [2.0, 7.0]
    assert last.usage.completion_tokens == 4
    assert "stream" not in endpoint.requests[0] and "stream_options" not in endpoint.requests[0]


def test_keys_are_the_callers_or_the_gateways(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    endpoint.respond = lambda body: completion("go", "wait")
    with gateway(endpoint, k=2) as client:
        ask(client, {"Authorization": "Bearer the-callers"})
        ask(client)
    assert endpoint.keys == ["Bearer the-callers", None]
    endpoint.keys.clear()
    monkeypatch.setenv("OPENAI_API_KEY", "the-upstreams")
    with gateway(endpoint, k=2, api_key="the-gateways") as client:
        assert ask(client).status_code == 401
        assert ask(client, {"Authorization": "Bearer the-callers"}).status_code == 401
        assert ask(client, {"Authorization": "Bearer the-gateways"}).status_code == 200
        assert client.get("/healthz").status_code == 200
    assert endpoint.keys == ["Bearer the-upstreams"]
    told = capfd.readouterr()
    for secret in ("the-callers", "the-gateways", "the-upstreams"):
        assert secret not in told.out + told.err + caplog.text


def test_metrics_say_what_the_choice_is_worth(endpoint: Endpoint) -> None:
    with gateway(endpoint, k=4) as client:
        endpoint.gives("go", "look around", "go", "look")
        ask(client)
        endpoint.gives("go")
        ask(client, {"x-agentrm-k": "1"})
        text = client.get("/metrics").text
    # 11 over the mean of 2, 11, 2 and 4.
    for line in (
        "gain_sum 6.25",
        "gain_count 1.0",
        "candidates_total 5.0",
        "tokens_total 10.0",
        "degraded_total 0.0",
        'part_seconds_count{part="upstream"} 2.0',
        'part_seconds_count{part="scoring"} 1.0',
        'requests_total{path="/v1/chat/completions",status="200"} 2.0',
    ):
        assert f"agentrm_gateway_{line}" in text, line
    dashboard = json.loads((ROOT / "actors" / "grafana.json").read_text())
    panels = [each["targets"][0]["expr"] for each in dashboard["panels"]]
    shown = set(re.findall(r"(?<!ray_)agentrm_gateway_\w+", " ".join(panels)))
    assert len(shown) >= 5
    assert not [name for name in shown if not re.search(rf"^{name}\b", text, re.MULTILINE)]


def rows(folder: Path, session: str) -> list[Body]:
    return [json.loads(line) for line in (folder / f"{session}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("k", [1, 2])
def test_a_sessions_conversations_are_kept_and_get_their_outcome(
    endpoint: Endpoint, tmp_path: Path, k: int, stream: bool
) -> None:
    def respond(body: Body) -> Any:
        if body.get("stream"):
            return streamed(events("open ", "it" * len(body["messages"])))
        return completion(*["open " + "it" * len(body["messages"]), "go"][: body.get("n", 1)])

    endpoint.respond = respond
    session = {"x-agentrm-session": "one.1"}
    messages = list(ASKED["messages"])
    tools = [{"type": "function", "function": {"name": "move", "parameters": {}}}]
    with gateway(endpoint, k=k, record=str(tmp_path / "kept")) as client:

        def turn(**fields: Any) -> None:
            assert ask(client, session, messages=messages, stream=stream, **fields).status_code == 200

        turn(tools=tools)
        first = {"role": "assistant", "content": "open it"}
        # An agent sends its turns back with fields of its own.
        messages += [first | {"refusal": None}, {"role": "user", "content": "it is open"}]
        turn(tools=tools)
        turn(tools=tools)  # asked again: the answer before was not used
        ask(client, messages=ASKED["messages"])  # no session
        (row,) = rows(tmp_path / "kept", "one.1")
        assert row["messages"] == [*messages, {"role": "assistant", "content": "open ititit"}]
        assert (row["model"], row["tools"], row["outcome"]) == ("m", tools, None)
        assert [each["at"] for each in row["turns"]] == [1, 3]
        assert row["turns"][0]["candidates"] == [first, {"role": "assistant", "content": "go"}][:k]
        assert row["turns"][0]["values"] == ([None] if k == 1 else [7.0, 2.0])
        assert row["turns"][0]["chosen"] == 0
        messages[:] = [{"role": "user", "content": "another matter"}]
        turn()
        told = client.post("/v1/outcomes", json={"session": "one.1", "outcome": 0.75})
        assert told.json() == {"conversations": 2}
        assert [each["outcome"] for each in rows(tmp_path / "kept", "one.1")] == [0.75, 0.75]
        assert [each.name for each in (tmp_path / "kept").iterdir()] == ["one.1.jsonl"]
        assert client.post("/v1/outcomes", json={"session": "two", "outcome": 1}).status_code == 404
        for outcome in (2, -0.1, "good"):
            assert client.post("/v1/outcomes", json={"session": "one.1", "outcome": outcome}).status_code == 422
        for name in ("../up", ".hidden", "a/b", "x" * 200):
            assert ask(client, {"x-agentrm-session": name}).status_code == 422


def test_what_cannot_be_kept_is_answered_all_the_same(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    endpoint.respond = lambda body: completion("go", "wait")
    with gateway(endpoint, k=2, record=str(tmp_path / "file")) as client:
        assert texts(ask(client, {"x-agentrm-session": "one"})) == ["wait"]
        assert "agentrm_gateway_unrecorded_total 1.0" in client.get("/metrics").text
    with gateway(endpoint) as client:
        assert client.post("/v1/outcomes", json={"session": "one", "outcome": 1}).status_code == 404


def test_two_hundred_clients_lose_nothing(endpoint: Endpoint) -> None:
    async def respond(body: Body) -> Any:
        await asyncio.sleep(0.02)
        number = body["messages"][0]["content"]
        if body.get("stream"):
            return streamed(events(number, " alone"))
        return completion(*[f"{number} {'x' * each}" for each in range(body.get("n", 1))])

    endpoint.respond = respond

    async def load(address: str) -> Counter[str]:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=4)
        found: Counter[str] = Counter()
        until = time.monotonic() + 3
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:

            async def one(number: int) -> None:
                for turn in range(1000):
                    if time.monotonic() > until:
                        return
                    k, stream = 1 + 2 * (turn % 2), number % 2 == 0
                    asked = {
                        "model": f"m@best-of-{k}",
                        "messages": [{"role": "user", "content": f"{number}.{turn}"}],
                        "stream": stream,
                    }
                    answer = await client.post("/v1/chat/completions", json=asked)
                    right = f"{number}.{turn}" in answer.text
                    done = "[DONE]" in answer.text if stream else answer.json()["choices"]
                    found[f"{answer.status_code} {bool(right and done)}"] += 1

            await asyncio.gather(*map(one, range(200)))
        return found

    with gateway(endpoint) as client:
        found = asyncio.run(load(str(client.base_url)))
        assert "agentrm_gateway_queue 0.0" in client.get("/metrics").text
    assert set(found) == {"200 True"}
    assert found["200 True"] >= 200

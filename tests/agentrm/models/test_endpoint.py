"""Endpoints as they are in the wild, over real HTTP: what they refuse, and every shape of what they answer."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from inspect import isawaitable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response

from agentrm.config.schema import Sampling, Thinking
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import ContextOverflow, InputRefused, ModelError, ModelUnavailable
from agentrm.core.messages import ToolCall
from agentrm.core.state import Proposal, State, joined
from agentrm.core.task import Observation, Task
from agentrm.environments.registry import environment_class
from agentrm.models.endpoint import ChatEndpoint, Choice
from agentrm.models.judge import EndpointCompleter
from agentrm.models.openai_policy import EndpointPolicy
from tests.servers import free_port, serving

STATE = State.begin(Task("toy", "any", "train", 0), "go to the ball")
FIELDS = {"n": 3, "seed": 5, "top_p": 0.9, "temperature": 0.8, "max_tokens": 8, "logprobs": True}
Body = dict[str, Any]


def answer(*texts: Any, **more: Any) -> Body:
    """A completion with these contents."""
    choices = [{"index": i, "message": {"role": "assistant", "content": each}} for i, each in enumerate(texts)]
    return {"object": "chat.completion", "choices": choices, **more}


def refusal(message: str, status: int = 400, **more: Any) -> JSONResponse:
    return JSONResponse({"error": {"message": message, **more}}, status)


def greeting(body: Body) -> bool:
    return body["messages"][0]["content"] == "Hello"


class Server:
    """Answers by `respond`, which a test sets; keeps the bodies that it was sent."""

    def __init__(self) -> None:
        self.respond: Callable[[Body], Any] = lambda body: answer("look")
        self.requests: list[Body] = []
        self.url = ""
        self.app = app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(body: dict[str, Any]) -> Any:
            self.requests.append(body)
            found = self.respond(body)
            return await found if isawaitable(found) else found

    def __call__(self, ask: Callable[[ChatEndpoint], Awaitable[Any]], retries: int = 0) -> Any:
        """What `ask` gets from a new client."""

        async def run() -> Any:
            return await ask(ChatEndpoint(self.url, "m", "key", retries=retries))

        return asyncio.run(run())

    def propose(self, n: int = 1, state: State = STATE, **options: Any) -> list[Proposal]:
        sampling = Sampling(temperature=0.8, top_p=0.9, max_tokens=8)

        async def ask(endpoint: ChatEndpoint) -> list[Proposal]:
            return await EndpointPolicy(endpoint, sampling, ActionFormat.react).propose(state, n)

        return self(ask, **options)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    with serving(server.app) as address:
        server.url = f"{address}/v1"
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.requests.clear()
    return running


def openai_form(field: str) -> Response:
    return refusal(f"Unsupported parameter: '{field}' is not supported with this model.", param=field)


def validation_form(field: str) -> Response:
    detail = [{"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted", "input": 1}]
    return JSONResponse({"detail": detail}, 422)


def in_prose(field: str) -> Response:
    return JSONResponse({"message": f"{field} is not implemented"}, 501)


def wordless(field: str) -> Response:
    return Response("Bad Request", 400)


def in_a_good_answer(field: str) -> Response:
    return JSONResponse({"error": {"message": f"unknown name {field}", "code": 400}})


@pytest.mark.parametrize("form", [openai_form, validation_form, in_prose, wordless, in_a_good_answer])
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_refused_is_left_out_from_then_on(server: Server, field: str, form: Any) -> None:
    server.respond = lambda body: form(field) if field in body else answer(*["look"] * body.get("n", 1))

    async def twice(endpoint: ChatEndpoint) -> int:
        await endpoint.chat(STATE.conversation().messages, **FIELDS)
        asked = len(server.requests)
        await endpoint.chat(STATE.conversation().messages, **FIELDS | {"seed": 6})
        return len(server.requests) - asked

    assert server(twice) == 1
    last = server.requests[-1]
    assert field not in last and set(FIELDS) - {field} <= set(last)
    assert ("max_completion_tokens" in last) == (field == "max_tokens")


def test_several_fields_are_refused_one_after_the_other(server: Server) -> None:
    def respond(body: Body) -> Any:
        refused = [field for field in ("logprobs", "n", "seed", "max_tokens", "max_completion_tokens") if field in body]
        return openai_form(refused[0]) if refused else answer("look")

    server.respond = respond
    assert [each.text for each in server.propose(3)] == ["look"] * 3
    assert [sorted(body.keys() - {"model", "messages"}) for body in server.requests[-2:]] == [
        ["temperature", "top_p"]
    ] * 2
    assert len(server.requests) == 5 + 3


def test_a_value_is_refused_and_another_is_not(server: Server) -> None:
    """Some models take only their default temperature, some servers none of 0: other values are another matter."""

    def respond(body: Body) -> Any:
        return (
            refusal("`temperature` must be strictly positive", 422) if body.get("temperature") == 0 else answer("look")
        )

    async def both(endpoint: ChatEndpoint) -> None:
        for temperature in (0.0, 0.8, 0.0):
            await endpoint.chat(STATE.conversation().messages, temperature=temperature)

    server.respond = respond
    server(both)
    assert [body.get("temperature") for body in server.requests] == [0.0, None, 0.8, None]


@pytest.mark.parametrize("ignored", [False, True])
def test_choices_that_come_one_at_a_time_are_drawn_apart(server: Server, ignored: bool) -> None:
    def respond(body: Body) -> Any:
        if body.get("n", 1) > 1 and not ignored:
            return refusal("Only one completion choice is allowed")
        return answer(f"Action: look {body['seed']}")

    server.respond = respond
    found = server.propose(3)
    assert len({each.action for each in found}) == 3
    assert Counter(body.get("n", 1) for body in server.requests) == {3: 1, 1: 2 if ignored else 3}


SHAPES: dict[str, Any] = {
    "null choices": {"choices": None},
    "no choices": {"choices": []},
    "a null choice": {"choices": [None]},
    "no message": {"choices": [{"index": 0, "finish_reason": "stop"}]},
    "an error in the body": {"error": {"message": "the provider is gone", "code": 502}},
    "an error in the choice": {"choices": [{"error": {"message": "the provider is gone"}, "message": {"content": ""}}]},
    "text": "the provider is gone",
    "null": None,
    "a list": [],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_without_a_choice_is_asked_for_again_and_then_told(server: Server, shape: str) -> None:
    bad = [2]

    def respond(body: Body) -> Any:
        bad[0] -= not greeting(body)
        return JSONResponse(SHAPES[shape]) if bad[0] >= 0 and not greeting(body) else answer("Action: look")

    server.respond = respond
    with pytest.raises(
        ModelError, match="provider is gone" if "gone" in str(SHAPES[shape]) else "without a choice"
    ) as told:
        server.propose()
    assert not isinstance(told.value, InputRefused | ModelUnavailable)
    assert [each.action for each in server.propose(retries=1)] == ["look"]


PAGE = "<html><head><style>p {}</style></head><body><h1>502 Bad Gateway</h1>nginx</body></html>"


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (lambda: HTMLResponse(PAGE), "502 Bad Gateway nginx"),
        (lambda: HTMLResponse(PAGE, 502), "502 Bad Gateway nginx"),
        (lambda: Response('{"choices": [{"mess', media_type="application/json"), "choices"),
        (lambda: Response("data: {}", media_type="text/event-stream"), "data"),
        (lambda: Response(b"\xff\xfe", media_type="application/json"), "without a choice"),
        (lambda: Response("{}", headers={"Content-Length": "9"}), "did not answer at http://127"),
        (lambda: refusal("slow down", 429), "429 slow down"),
        (lambda: JSONResponse("overloaded", 503), "503 overloaded"),
        (lambda: Response(status_code=500), "500"),
    ],
)
def test_trouble_that_may_pass_is_one_requests_error(server: Server, response: Any, words: str) -> None:
    server.respond = lambda body: answer("Action: look") if greeting(body) else response()
    with pytest.raises(ModelError, match=words) as told:
        server.propose()
    assert not isinstance(told.value, InputRefused | ModelUnavailable)
    assert "\n" not in str(told.value)
    server.respond = lambda body: response()
    with pytest.raises(ModelUnavailable, match=words):
        server.propose()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": None}}, Choice("", tokens=7)),
        ({"message": {"content": ""}, "logprobs": None}, Choice("", tokens=7)),
        ({"message": {}, "logprobs": {}}, Choice("", tokens=7)),
        ({"message": {"content": None, "reasoning_content": "hm"}}, Choice("", "hm", tokens=7)),
        ({"message": {"content": "look", "reasoning": "hm"}}, Choice("look", "hm", tokens=7)),
        ({"message": {"content": None, "refusal": "I cannot."}}, Choice("I cannot.", tokens=7)),
        ({"message": {"content": [{"type": "thinking"}, {"type": "text", "text": "look"}]}}, Choice("look", tokens=7)),
        ({"message": {"content": "a\ud800b"}}, Choice("a?b", tokens=7)),
        ({"message": {"content": "look"}, "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -2}]}}, (-3.0, 2)),
        ({"message": {"content": "look"}, "logprobs": {"content": [{"logprob": -1.0}, None]}}, (0.0, 2)),
        ({"message": {"content": "look"}, "logprobs": {"content": [{"token": "x"}]}}, (0.0, 1)),
        ({"message": {"content": "look"}, "logprobs": {"content": [{"logprob": math.nan}]}}, (0.0, 1)),
        ({"message": {"content": "look"}, "logprobs": {"content": []}}, (0.0, 7)),
    ],
)
def test_shapes_of_a_choice(server: Server, choice: Body, expected: Any) -> None:
    body = json.dumps({"choices": [choice], "usage": {"completion_tokens": 7}})
    server.respond = lambda _: Response(body, media_type="application/json")
    (found,) = server(lambda endpoint: endpoint.chat(STATE.conversation().messages))
    assert found == expected if isinstance(expected, Choice) else (found.logprob, found.tokens) == expected


@pytest.mark.parametrize("usage", [None, {}, {"completion_tokens": None}, "none"])
def test_uncounted_tokens_are_none(server: Server, usage: Any) -> None:
    server.respond = lambda body: answer("Action: look", usage=usage)
    assert [(each.tokens, each.logprob) for each in server.propose()] == [(0, 0.0)]


def test_a_history_that_the_endpoint_caused_is_accepted_by_it_again(server: Server) -> None:
    """It answers with nothing, or with what is no text, and refuses turns without text."""

    def respond(body: Body) -> Any:
        if any(not message["content"].strip() for message in body["messages"]):
            return refusal("messages: text content blocks must be non-empty")
        return Response(json.dumps(answer(None if len(body["messages"]) == 1 else "a\ud800")), media_type="text/json")

    server.respond = respond
    state = STATE
    for _ in range(3):
        (proposal,) = server.propose(state=state)
        assert proposal.malformed
        state = state.extend(proposal, Observation(" \ud800"[: len(state.steps)]))
    assert [message["content"] for message in server.requests[-1]["messages"][1:]] == [
        "(empty)",
        "(empty)",
        "a?",
        "(empty)",
    ]
    assert state.steps[0].proposal.text == "", "the state says what was answered"


def test_reasoning_that_came_apart_is_the_thought(server: Server) -> None:
    message = {"content": "Action: look", "reasoning_content": "I see nothing.\n"}
    server.respond = lambda body: {"choices": [{"message": message}]}
    assert server.propose() == [Proposal("Action: look", "look", "I see nothing.", reasoning="I see nothing.")]


OVERFLOWS = [
    ("This model's maximum context length is 512 tokens. However, your prompt has 900.", {}),
    ("anything", {"code": "context_length_exceeded"}),
    ("prompt is too long: 200001 tokens > 199999 maximum", {}),
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", {}),
    ("The decoder prompt (length 900) is longer than the maximum model length of 512.", {}),
    ("the request exceeds the available context size. try increasing the context size", {}),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", {}),
    ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens", {}),
    ("This model's maximum prompt length is 131072 but the request contains 200000 tokens.", {}),
    ("Please reduce the length of the messages or completion.", {}),
    ("Input is too long for requested model.", {}),
    ("too many tokens: total number of tokens in the prompt cannot exceed 4081", {}),
    ("input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000", {}),
]
OTHERS = [
    "The response was filtered due to the prompt triggering the content management policy.",
    "In this context we cannot answer.",
    "max_tokens is too large: 8. This model supports at most 4 completion tokens.",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "Invalid value for 'content': expected a string, got null.",
    "You exceeded your current quota, please check your plan.",
]


@pytest.mark.parametrize("status", [400, 422, 500, 200])
def test_a_context_that_is_full_is_recognised(server: Server, status: int) -> None:
    async def ask(endpoint: ChatEndpoint) -> None:
        for words, more in OVERFLOWS:
            server.respond = partial(lambda response, body: response, refusal(words, status, **more))
            with pytest.raises(ContextOverflow, match=re.escape(words)):
                await endpoint.chat(STATE.conversation().messages, **FIELDS)

    server(ask)
    assert len(server.requests) == len(OVERFLOWS)


@pytest.mark.parametrize("words", OTHERS)
def test_other_refusals_are_about_one_state(server: Server, words: str) -> None:
    server.respond = lambda body: answer("look") if greeting(body) else refusal(words)
    with pytest.raises(InputRefused, match="m refused a request: 400") as told:
        server.propose()
    assert not isinstance(told.value, ContextOverflow)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "no"},
        {"detail": [{"loc": 3}]},
        {"detail": [None]},
        {"error": None},
        {"error": []},
        {"error": "no"},
        {"error": {"message": None, "code": "²"}},
        [{"error": {"message": "no"}}],
        [],
        "no",
        7,
        None,
    ],
)
def test_a_refusal_may_have_any_form(server: Server, body: Any) -> None:
    server.respond = lambda sent: answer("look") if greeting(sent) else JSONResponse(body, 400)
    with pytest.raises(InputRefused, match="m refused a request: 400"):
        server.propose()


def test_a_body_that_is_too_large_is_a_full_context(server: Server) -> None:
    server.respond = lambda body: HTMLResponse("<h1>Request Entity Too Large</h1>", 413)
    with pytest.raises(ContextOverflow):
        server.propose()


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "Incorrect API key provided"), (404, "The model `m` does not exist"), (403, "no"), (402, "no credit left")],
)
def test_what_refuses_even_a_greeting_is_unavailable(server: Server, status: int, words: str) -> None:
    server.respond = lambda body: refusal(words, status)
    with pytest.raises(ModelUnavailable, match=f"{status} {words}"):
        server.propose()
    with pytest.raises(ModelUnavailable, match=words):
        asyncio.run(EndpointCompleter(server.url, "m", "key").complete("which one?"))


def test_a_key_that_is_withdrawn_is_seen(server: Server) -> None:
    async def withdrawn(endpoint: ChatEndpoint) -> None:
        server.respond = lambda body: answer("look")
        await endpoint.chat(STATE.conversation().messages)
        server.respond = lambda body: refusal("the key was withdrawn", 401)
        await endpoint.chat(STATE.conversation().messages)

    with pytest.raises(ModelUnavailable, match="withdrawn"):
        server(withdrawn)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/v1", "http://no-such-host.invalid/v1", "http://127.0.0.1:{}"])
def test_a_dead_address_is_unavailable(url: str) -> None:
    async def ask() -> None:
        await ChatEndpoint(url.format(free_port()), "m", "key", retries=0).chat(STATE.conversation().messages)

    with pytest.raises(ModelUnavailable, match="did not answer at http://"):
        asyncio.run(ask())


def test_a_time_out_is_one_requests_error(server: Server) -> None:
    async def slow() -> Body:
        await asyncio.sleep(1.0)
        return answer("look")

    async def ask() -> None:
        endpoint = ChatEndpoint(server.url, "m", "key", retries=0, timeout_s=0.3)
        server.respond = lambda body: answer("look")
        await endpoint.chat(STATE.conversation().messages)
        server.respond = lambda body: slow()
        await endpoint.chat(STATE.conversation().messages)

    with pytest.raises(ModelError, match="timed out") as told:
        asyncio.run(ask())
    assert not isinstance(told.value, ModelUnavailable)


TOOLS = tuple(environment_class("maze").tools("double_t"))
ASKED = State.begin(Task("maze", "double_t", "train", 0), "go", tools=TOOLS)


def calling(*calls: Any, **more: Any) -> Body:
    """A completion that calls tools: of each call a name and arguments, and an id where one is given."""
    made = [{"type": "function", "function": dict(zip(("name", "arguments"), each[:2], strict=True))} for each in calls]
    for call, each in zip(made, calls, strict=True):
        call |= {"id": each[2]} if len(each) > 2 else {}
    return {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": made, **more}}]}


def call_tools(server: Server, state: State = ASKED, **more: Any) -> Proposal:
    sampling = Sampling(temperature=0.8, top_p=0.9, max_tokens=8)

    async def ask(endpoint: ChatEndpoint) -> list[Proposal]:
        return await EndpointPolicy(endpoint, sampling, ActionFormat.tools, **more).propose(state, 1)

    return server(ask)[0]


def test_tools_are_sent_and_several_calls_are_read_in_order(server: Server) -> None:
    server.respond = lambda body: calling(
        ("act", '{"command": "move up"}', "a1"), ("act", {"command": "move left"}), reasoning_content="Up.\n"
    )
    proposal = call_tools(server)
    assert server.requests[-1]["tools"] == list(TOOLS)
    assert proposal == Proposal(
        "",
        joined(["move up", "move left"]),
        "Up.",
        reasoning="Up.",
        calls=(ToolCall("act", '{"command": "move up"}', "a1"), ToolCall("act", '{"command": "move left"}', "call_1")),
    )


@pytest.mark.parametrize(
    ("calls", "action", "kept"),
    [
        ([("act", '{"command": "move')], 'act({"command": "move)', 0),
        ([("act", None)], "act({})", 1),
        ([("act", "")], "act({})", 1),
        ([("act", "[]"), ("act", '{"command": "move up"}')], 'act([])\nact({"command": "move up"})', 0),
        ([("fly", "{}", "x")], "fly({})", 1),
        ([], "(a refusal)", 0),
        ([(None, "{}")], "(a refusal)", 0),
    ],
)
def test_calls_that_are_none_are_malformed(server: Server, calls: list[Any], action: str, kept: int) -> None:
    server.respond = lambda body: calling(*calls, refusal=None if kept or "(a" not in action else "(a refusal)")
    proposal = call_tools(server)
    assert (proposal.action, len(proposal.calls), proposal.malformed) == (action, kept, True)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("thinking", list(Thinking))
def test_what_a_turn_held_goes_back_as_it_came(server: Server, name: str, thinking: Thinking) -> None:
    server.respond = lambda body: calling(("act", '{"command": "move up"}', "a1"), **{name: "Up."})

    async def twice(endpoint: ChatEndpoint) -> None:
        policy = EndpointPolicy(endpoint, Sampling(), ActionFormat.tools, thinking=thinking)
        (proposal,) = await policy.propose(ASKED, 1)
        await policy.propose(ASKED.extend(proposal, Observation("a wall")), 1)

    server(twice)
    _, turn, answer = server.requests[-1]["messages"]
    call = {"id": "a1", "type": "function", "function": {"name": "act", "arguments": '{"command": "move up"}'}}
    thoughts = {} if thinking is Thinking.drop else {name: "Up."}
    assert turn == {"role": "assistant", "content": None, "tool_calls": [call], **thoughts}
    assert answer == {"role": "tool", "content": "a wall", "tool_call_id": "a1", "name": "act"}


def test_thoughts_are_left_out_where_they_are_refused(server: Server) -> None:
    def respond(body: Body) -> Any:
        if any("reasoning_content" in message for message in body["messages"]):
            return refusal("Unknown parameter: 'messages[1].reasoning_content'.")
        return calling(("act", '{"command": "move up"}', "a1"))

    server.respond = respond
    turn = Proposal("", "move up", reasoning="Up.", calls=(ToolCall("act", '{"command": "move up"}', "a1"),))
    assert call_tools(server, ASKED.extend(turn, Observation("a wall"))).action == "move up"


@pytest.mark.parametrize(
    "words",
    [
        "tools is not supported by this model",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    ],
)
def test_an_endpoint_without_tools_is_told_with_the_key(server: Server, words: str) -> None:
    server.respond = lambda body: refusal(words) if "tools" in body else answer("look")
    with pytest.raises(ModelUnavailable, match=r"takes no tools, which model\.action_format=tools needs: .*tool"):
        call_tools(server)


def test_settings_of_the_template_are_sent_and_never_left_out(server: Server) -> None:
    server.respond = lambda body: calling(("act", '{"command": "move up"}'))
    call_tools(server, settings={"enable_thinking": False})
    assert server.requests[-1]["chat_template_kwargs"] == {"enable_thinking": False}
    server.respond = lambda body: (
        refusal("Unrecognized request argument supplied: chat_template_kwargs")
        if "chat_template_kwargs" in body
        else answer("look")
    )
    with pytest.raises(ModelUnavailable, match=r"model\.template_kwargs are: Unrecognized"):
        call_tools(server, settings={"enable_thinking": False})

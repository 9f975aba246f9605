"""The judge against an endpoint that speaks the protocol over real HTTP, with answers that the test writes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from agentrm.config.schema import Comparison
from agentrm.core.errors import ContextOverflow, ModelError
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.models.judge import EndpointCompleter, Judge, Verdicts, forms, question
from tests.servers import serving

TASK = Task("toy", "any", "train", 0)


def state(quality: int, task: Task = TASK) -> State:
    """One step whose action is how good it is."""
    return State.begin(task, "fetch the key").extend(
        Proposal(f"work {quality}", f"work {quality}"), Observation("fine")
    )


class Endpoint:
    """`answer` maps the qualities of the attempts, in the order shown, to the judge's text."""

    def __init__(self) -> None:
        self.answer: Callable[[list[int]], str] = lambda shown: ""
        self.requests: list[dict[str, Any]] = []
        self.url = ""
        self.app = app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(body: dict[str, Any]) -> Any:
            self.requests.append(body)
            shown = [int(number) for number in re.findall(r"^> work (\d+)$", body["messages"][0]["content"], re.M)]
            text = self.answer(shown)
            if text == "overflow":
                # The form of vLLM's server.
                told = "This model's maximum context length is 512 tokens. However, your prompt has 900."
                return JSONResponse({"error": {"message": told, "type": "BadRequestError", "code": 400}}, 400)
            if text == "refused":
                return JSONResponse({"error": {"message": "the prompt triggered the content management policy"}}, 400)
            if text == "silent":
                return {"choices": [{"message": {"content": None, "reasoning_content": "Best: 1"}}]}
            if text == "broken":
                return JSONResponse({"error": {"message": "no"}}, 500)
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    with serving(endpoint.app) as address:
        endpoint.url = f"{address}/v1"
        yield endpoint


@pytest.fixture
def endpoint(server: Endpoint) -> Endpoint:
    server.requests.clear()
    return server


def judged(
    endpoint: Endpoint, qualities: list[int], compare: Comparison = Comparison.listwise, **options: Any
) -> tuple[list[float], Verdicts]:
    async def run() -> tuple[list[float], Verdicts]:
        judge = Judge(EndpointCompleter(endpoint.url, "toy-judge", "key", **options), compare)
        return await judge.score([state(each) for each in qualities]), judge.verdicts

    return asyncio.run(run())


def names_the_best(shown: list[int]) -> str:
    return f"They differ.\nBest: {shown.index(max(shown)) + 1}"


def test_all_are_shown_at_once_in_both_orders(endpoint: Endpoint) -> None:
    endpoint.answer = names_the_best
    assert judged(endpoint, [2, 9, 5]) == ([0.0, 1.0, 0.0], Verdicts(asked=2))
    shown = sorted(re.findall(r"work (\d)", body["messages"][0]["content"]) for body in endpoint.requests)
    assert shown == [["2", "9", "5"], ["5", "9", "2"]]
    assert all(body["temperature"] == 0 and body["model"] == "toy-judge" for body in endpoint.requests)


def test_a_judge_that_always_takes_the_first_is_swayed(endpoint: Endpoint) -> None:
    endpoint.answer = lambda shown: "Best: 1"
    assert judged(endpoint, [2, 9, 5]) == ([0.5, 0.0, 0.5], Verdicts(asked=2, swayed=1))


@pytest.mark.parametrize("answer", ["", "I like the second.", "Best: 3", "Best: 0", "Best: 1\nBest: 2", "Best: 1 or 2"])
def test_malformed_verdicts_are_counted_and_never_guessed(endpoint: Endpoint, answer: str) -> None:
    endpoint.answer = lambda shown: answer
    assert judged(endpoint, [2, 9]) == ([0.0, 0.0], Verdicts(asked=2, malformed=2))
    endpoint.answer = lambda shown: answer if shown == [9, 2] else names_the_best(shown)
    assert judged(endpoint, [2, 9]) == ([0.0, 0.0], Verdicts(asked=2, malformed=1))


@pytest.mark.parametrize("answer", ["Best: 2", "**Best: 2**", "Because of the key.\nBest: #2.", "Best: 2\n\nBest: 2"])
def test_what_is_a_verdict(endpoint: Endpoint, answer: str) -> None:
    endpoint.answer = lambda shown: answer if shown == [2, 9] else "Best: 1"
    assert judged(endpoint, [2, 9]) == ([0.0, 1.0], Verdicts(asked=2))


def test_a_question_beyond_the_context_is_counted(endpoint: Endpoint) -> None:
    endpoint.answer = lambda shown: "overflow"
    assert judged(endpoint, [2, 9]) == ([0.0, 0.0], Verdicts(asked=2, overflows=2))


def test_every_two_are_compared_in_both_orders(endpoint: Endpoint) -> None:
    endpoint.answer = lambda shown: "" if sorted(shown) == [2, 5] else names_the_best(shown)
    scores, verdicts = judged(endpoint, [2, 9, 5], compare=Comparison.pairwise)
    # 9 wins both of its comparisons, the third was not decided.
    assert scores == [0.0, 1.0, 0.0] and verdicts == Verdicts(asked=6, malformed=2)
    endpoint.answer = names_the_best
    assert judged(endpoint, [2, 9, 5], compare=Comparison.pairwise)[0] == [0.0, 1.0, 0.5]
    assert judged(endpoint, [2, 9], compare=Comparison.pairwise)[0] == [0.0, 1.0]


def test_what_does_not_fit_is_shortened_by_the_rule(endpoint: Endpoint) -> None:
    long = state(2)
    for number in range(40):
        turn = f"look {number}"
        long = long.extend(Proposal(turn, turn), Observation(f"{number}" + "wall " * 1000))
    texts = list(forms([long, state(9)]))
    assert [len(text) for text in texts] == sorted({len(text) for text in texts}, reverse=True)
    assert texts[0].count("wall ") == 40_000 and len(texts) == 14
    # All steps are there for as long as the answers alone are cut.
    assert all("> work 2" in text and "> look 39" in text for text in texts[:8])
    assert "(9 steps)" in texts[8] and "> look 39" in texts[-1] and "> look 38" not in texts[-1]
    assert list(forms([state(2), state(9)])) == [question([state(2), state(9)])]

    class Narrow:
        async def complete(self, question: str) -> str:
            if len(question) > 20_000:
                raise ContextOverflow("too long")
            return "Best: 1"

    judge = Judge(Narrow())
    assert asyncio.run(judge.score([long, state(9)])) == [0.5, 0.5]
    assert judge.verdicts == Verdicts(asked=2, shortened=2, swayed=1)


def test_a_question_that_is_refused_is_counted(endpoint: Endpoint) -> None:
    endpoint.answer = lambda shown: "refused" if shown == [9, 2] else names_the_best(shown) if shown else "hello"
    assert judged(endpoint, [2, 9]) == ([0.0, 0.0], Verdicts(asked=2, refused=1))


def test_a_judge_that_only_reasons_names_nobody(endpoint: Endpoint) -> None:
    endpoint.answer = lambda shown: "silent"
    assert judged(endpoint, [2, 9]) == ([0.0, 0.0], Verdicts(asked=2, malformed=2))


def test_an_endpoint_that_fails_is_a_model_error(endpoint: Endpoint) -> None:
    endpoint.answer = lambda shown: "broken"
    with pytest.raises(ModelError, match="toy-judge did not answer"):
        judged(endpoint, [2, 9], retries=0)


def test_tasks_are_judged_apart_and_one_state_alone_needs_no_judge(endpoint: Endpoint) -> None:
    endpoint.answer = names_the_best
    other = Task("toy", "any", "train", 1)

    async def run() -> list[float]:
        judge = Judge(EndpointCompleter(endpoint.url, "toy-judge", "key"))
        return await judge.score([state(2), state(7, other), state(3)])

    assert asyncio.run(run()) == [0.0, 0.0, 1.0]
    # A request that the test before has given up may come late.
    asked = [body["messages"][0]["content"] for body in endpoint.requests]
    assert sum("work 3" in question for question in asked) == 2
    assert not any("work 7" in question for question in asked)


def test_the_question_shows_the_task_and_each_attempt() -> None:
    text = question([state(2), State.begin(TASK, "fetch the key")])
    assert "fetch the key" in text and "2 attempts" in text
    assert "Attempt 1, unfinished:\n> work 2\nfine" in text
    assert "Attempt 2, unfinished:\n(no step yet)" in text

"""A live agent in a real maze: its endpoint knows the way, and says something worse first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI

from agentrm.config.schema import Gateway, Sampling
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import ModelError
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import Rows
from agentrm.evaluation.live import LiveEvaluator, players
from agentrm.search.episode import Opening
from agentrm.service.gateway.api import create_app
from tests.agentrm.service.gateway.upstream import Body, Endpoint, completion, length, refusal
from tests.local import Local
from tests.servers import free_port, serving

TASK = Task("maze", "perfect_tiny", "train", 1)
FORM = ActionFormat.react


def played(direct: str, through: str, stored: Rows) -> Rows:
    async def play() -> Rows:
        clients = (AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) for url in (direct, through))
        local, asked = Local(), players(*clients, "mine", (2, 3), FORM)
        opening = Opening(instructions=False, action_format=FORM)
        return await LiveEvaluator(asked, Sampling(), opening, 30, local, local).rows("held-in", TASK, stored)

    return asyncio.run(play())


def test_each_player_takes_the_turn_that_its_rule_picks() -> None:
    way = Local().pool.expert_actions(TASK)
    endpoint = Endpoint()

    def respond(body: Body) -> Body:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        right = f"Thought: I know the way.\nAction: {way[min(turn, len(way) - 1)]}"
        answer = completion("Action: wait", *[right] * (body["n"] - 1))
        for number, choice in enumerate(answer["choices"]):
            token = {"token": "a", "logprob": -1.0 if number == 1 else -2.0, "bytes": None, "top_logprobs": []}
            choice["logprobs"] = {"content": [token]} if body["logprobs"] else None
        return answer

    endpoint.respond = respond
    with serving(endpoint.app) as direct:
        settings = Gateway(upstream=f"{direct}/v1")
        with serving(create_app(length, settings)) as through:
            rows = played(direct, through, {})
            assert {method: row["success"] for method, row in rows.items()} == {
                "sampled mean": 0.0,
                "likeliest of 2 turns": 1.0,
                "majority of 2 turns": 0.0,
                "best of 2 turns": 1.0,
                "likeliest of 3 turns": 1.0,
                "majority of 3 turns": 1.0,
                "best of 3 turns": 1.0,
            }
            assert rows["best of 3 turns"]["environment_steps"] == len(way)
            assert rows["best of 3 turns"]["policy_tokens"] == 3 * 2 * len(way)
            seeds = {body["seed"] for body in endpoint.requests if len(body["messages"]) == 1}
            assert len(seeds) == 3, "one for each episode of the task, whoever plays"
            endpoint.requests.clear()
            assert played(direct, through, rows) == rows and not endpoint.requests


def test_an_episode_that_the_models_context_does_not_hold_ends_there() -> None:
    endpoint = Endpoint()
    refused = "This model's maximum context length is 64 tokens. However, your prompt contains at least 65 input tokens"

    def respond(body: Body) -> Any:
        return completion(*["Action: wait"] * body["n"]) if len(body["messages"]) < 5 else refusal(refused, 400)

    endpoint.respond = respond
    with serving(endpoint.app) as direct, serving(create_app(length, Gateway(upstream=f"{direct}/v1"))) as through:
        rows = played(direct, through, {})
        assert {row["environment_steps"] for row in rows.values()} == {2.0}
        assert not any(row["success"] for row in rows.values())
        endpoint.respond = lambda body: refusal("no such model", 400)
        with pytest.raises(ModelError, match="no such model"):
            played(direct, through, {})


def test_an_endpoint_that_is_not_there_is_the_models_failure() -> None:
    nothing = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ModelError, match="mine did not answer"):
        played(nothing, nothing, {})

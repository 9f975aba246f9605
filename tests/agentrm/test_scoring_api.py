"""Limits of the HTTP form that a real engine is too fast to reach: a full queue, a deadline, a dead engine."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from agentrm.config.schema import Serve
from agentrm.errors import ContextOverflow
from agentrm.scoring_api import Busy, create_app

BODY = {"conversations": [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]]}


class Backend:
    """Answers when `answer` is set; counts what it was asked."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.asked: list[list[list[dict[str, str]]]] = []
        self.failure: Exception | None = None
        self.alive = True

    async def score(self, conversations: list[list[dict[str, str]]]) -> list[float]:
        self.asked.append(conversations)
        await self.answer.wait()
        if self.failure:
            raise self.failure
        return [float(number) for number in range(len(conversations))]

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
            assert response.json() == {"model": "a-model", "scores": [0.0, 1.0]}
        assert (await http.post("/v1/score", json=BODY)).status_code == 200


async def test_a_request_past_its_deadline_is_504_and_frees_its_place() -> None:
    backend = Backend()
    async with client(backend, deadline_s=0.05, max_queued_requests=1) as http:
        for _ in range(2):
            response = await http.post("/v1/score", json=BODY)
            assert response.status_code == 504
            assert "0.05 s" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("failure", "status"), [(ContextOverflow("17 tokens, the context is 16"), 422), (Busy("the queue is full"), 429)]
)
async def test_what_the_backend_refuses_is_told(failure: Exception, status: int) -> None:
    backend = Backend()
    backend.failure = failure
    backend.answer.set()
    async with client(backend) as http:
        response = await http.post("/v1/score", json=BODY)
    assert response.status_code == status
    assert response.json() == {"error": {"message": str(failure)}}


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

"""The client against a real server over HTTP: what it sends, what it tries again, and what its errors mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from fastapi import FastAPI

from agentrm.config.schema import End, Serve
from agentrm.core.errors import ModelError
from agentrm.core.messages import Conversation
from agentrm.evaluation.calibration import Calibration
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per
from agentrm.service import client as client_module
from agentrm.service.api import Busy, create_app
from agentrm.service.client import (
    AsyncScoringClient,
    KeyRefused,
    RequestRefused,
    ScoringClient,
    ServiceBusy,
    ServiceError,
    ServiceUnavailable,
)
from tests.servers import free_port, serving

CONVERSATIONS = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]]
KEY = "right"


class Backend:
    """Raises what `failures` holds, one per request, then answers with the number of characters or of ids."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.asked = 0
        self.delay = 0.0

    async def score(self, inputs: list[Input], per: Per) -> list[Reading]:
        self.asked += 1
        await asyncio.sleep(self.delay)
        if self.failures:
            raise self.failures.pop(0)
        lengths = [
            float(len(each.messages[0]["content"] if isinstance(each, Conversation) else cast("list[int]", each)))
            for each in inputs
        ]
        return [Reading([value] * (1 if per is Per.input else 2), 1, 0) for value in lengths]

    async def healthy(self) -> bool:
        return True


@pytest.fixture(scope="module")
def backend() -> Backend:
    return Backend()


@pytest.fixture(scope="module")
def url(backend: Backend) -> Iterator[str]:
    settings = Serve(api_key=KEY, max_conversations=3)
    app = create_app(backend.score, backend.healthy, settings, "a-model", context=1000)
    with serving(app) as address:
        yield address


@pytest.fixture(autouse=True)
def _fresh(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.failures, backend.asked, backend.delay = [], 0, 0.0
    monkeypatch.setattr(client_module, "_FIRST_WAIT_S", 0.01)


Call = Callable[[Any], Any]


def both(url: str, call: Call, **options: Any) -> list[Any]:
    """What a call gives, or the error that it raises, by the two clients."""

    async def awaited() -> Any:
        async with AsyncScoringClient(url, **options) as client:
            return await call(client)

    def blocking() -> Any:
        with ScoringClient(url, **options) as client:
            return call(client)

    found = []
    for run in (blocking, lambda: asyncio.run(awaited())):
        try:
            found.append(run())
        except ServiceError as error:
            found.append(error)
    return found


def test_all_calls(url: str) -> None:
    assert both(url, lambda client: client.score(CONVERSATIONS), api_key=KEY) == [[2.0, 2.0]] * 2
    assert both(url, lambda client: client.score_steps(CONVERSATIONS), api_key=KEY) == [[[2.0] * 2] * 2] * 2
    assert both(url, lambda client: client.score_ids([[1, 2, 3], [4]]), api_key=KEY) == [[3.0, 1.0]] * 2
    for (model,) in both(url, lambda client: client.models(), api_key=KEY):
        assert (model.id, model.context) == ("a-model", 1000)


def test_probabilities_are_asked_for_and_refused_by_a_model_that_has_none(backend: Backend, url: str) -> None:
    known = {End.state: Calibration([0.0, 4.0], [0.0, 1.0])}
    app = create_app(backend.score, backend.healthy, Serve(), "a-model", context=1000, calibrations=known)
    with serving(app) as address:
        # Of the raw values 2, 3 and 1.
        assert both(address, lambda client: client.score(CONVERSATIONS, calibrated=True)) == [[0.5, 0.5]] * 2
        assert both(address, lambda client: client.score_steps(CONVERSATIONS, calibrated=True)) == [[[0.5] * 2] * 2] * 2
        assert both(address, lambda client: client.score_ids([[1, 2, 3], [4]], calibrated=True)) == [[0.75, 0.25]] * 2
    for found in both(url, lambda client: client.score(CONVERSATIONS, calibrated=True), api_key=KEY):
        assert type(found) is RequestRefused and "no calibration of states" in str(found)


def test_of_a_conversation_that_goes_on_only_what_is_new_is_sent(url: str, backend: Backend) -> None:
    step = [{"role": "assistant", "content": "go"}, {"role": "user", "content": "done"}]
    grown = [CONVERSATIONS[0], CONVERSATIONS[0] + step, CONVERSATIONS[0] + step * 2]

    async def awaited() -> list[str]:
        async with AsyncScoringClient(url, KEY) as client:
            return [await asked(client, each) for each in grown]

    async def asked(client: AsyncScoringClient, conversation: list[dict[str, str]]) -> str:
        assert await client.score([conversation]) == [2.0]
        return str(client._requests.conversations([Conversation(conversation + step)], "input", False))

    for body in asyncio.run(awaited()):
        assert "'hi'" not in body and "'after'" in body
    with ScoringClient(url, KEY) as client:
        client.score([grown[0]])
        # Another service, or another replica, answers now.
        client._requests._sent._names = dict.fromkeys(client._requests._sent._names, "gone")
        assert client.score([grown[1], grown[2]]) == [2.0, 2.0] and not client._requests._sent.asks
        assert client.score([grown[1]]) == [2.0]


def test_one_retry_hides_one_failure(url: str, backend: Backend) -> None:
    backend.failures = [ModelError("a replica died")]
    with ScoringClient(url, KEY, retries=1) as client:
        assert client.score(CONVERSATIONS) == [2.0, 2.0]
    assert backend.asked == 2


def test_a_named_wait_is_kept(url: str, backend: Backend) -> None:
    backend.failures = [Busy("full")]
    started = time.monotonic()
    with ScoringClient(url, KEY, retries=1) as client:
        client.score(CONVERSATIONS)
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize(
    ("failure", "error", "status"),
    [(ModelError("a replica died"), ServiceUnavailable, 503), (RuntimeError("a bug"), ServiceUnavailable, 500)],
)
def test_what_stays_broken_is_told(
    url: str, backend: Backend, failure: Exception, error: type[ServiceError], status: int
) -> None:
    backend.failures = [failure] * 4
    for found in both(url, lambda client: client.score(CONVERSATIONS), api_key=KEY, retries=0):
        assert type(found) is error
        assert found.status == status
    assert backend.asked == 2


def test_a_full_queue_is_told(url: str, backend: Backend) -> None:
    backend.failures = [Busy("full")] * 2
    for found in both(url, lambda client: client.score(CONVERSATIONS), api_key=KEY, retries=0):
        assert type(found) is ServiceBusy
        assert str(found) == "full"


def test_what_the_user_can_mend_is_not_tried_again(url: str, backend: Backend) -> None:
    for found in both(url, lambda client: client.score(CONVERSATIONS * 2), api_key=KEY):
        assert type(found) is RequestRefused and found.status == 413 and "at most 3" in str(found)
    for found in both(url, lambda client: client.score([[]]), api_key=KEY):
        assert type(found) is RequestRefused and found.status == 422
    for found in both(url, lambda client: client.score(CONVERSATIONS), api_key="wrong"):
        assert type(found) is KeyRefused
    assert backend.asked == 0


def test_a_time_out_is_tried_again(url: str, backend: Backend) -> None:
    backend.delay = 0.5
    for found in both(url, lambda client: client.score(CONVERSATIONS), api_key=KEY, timeout_s=0.05, retries=1):
        assert type(found) is ServiceUnavailable and found.status is None
    assert backend.asked == 4


def test_nobody_there() -> None:
    for found in both(f"http://127.0.0.1:{free_port()}", lambda client: client.score(CONVERSATIONS), retries=1):
        assert type(found) is ServiceUnavailable


def test_another_server_is_no_scoring_service() -> None:
    app = FastAPI()
    app.post("/v1/score")(lambda: {"hello": 1})
    with serving(app) as address:
        for found in both(address, lambda client: client.score(CONVERSATIONS)):
            assert type(found) is ServiceUnavailable and "no scoring service" in str(found)


def test_a_slash_after_the_address_and_a_prefix_before_the_paths(backend: Backend) -> None:
    app = FastAPI()
    app.mount("/behind", create_app(backend.score, backend.healthy, Serve(), "a-model", context=1000))
    with serving(app) as address:
        assert both(f"{address}/behind/", lambda client: client.score(CONVERSATIONS)) == [[2.0, 2.0]] * 2


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_of_the_environment_is_asked(
    url: str, variable: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, url.replace("http://", scheme))
    for (model,) in both("http://scores.invalid", lambda client: client.models(), api_key=KEY):
        assert model.id == "a-model"
    monkeypatch.setenv("no_proxy", "scores.invalid")
    for found in both("http://scores.invalid", lambda client: client.models(), api_key=KEY, retries=0):
        assert type(found) is ServiceUnavailable and found.status is None


def test_an_asynchronous_client_can_be_made_before_a_loop_runs(url: str) -> None:
    client = AsyncScoringClient(url, KEY)

    async def ask() -> list[float]:
        async with client:
            return await client.score(CONVERSATIONS)

    assert asyncio.run(ask()) == [2.0, 2.0]

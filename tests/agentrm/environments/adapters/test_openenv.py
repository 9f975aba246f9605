"""The OpenEnv adapter against a local server: OpenEnv's own where `openenv-core` is installed, and one like it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.adapters.openenv import OpenEnvEnvironment

pytest.importorskip("websockets")
TASK = Task("number", "small", "train", 3)


class Number(OpenEnvEnvironment):
    name = "number"
    levels: ClassVar[Mapping[str, Any]] = {"small": {}, "large": {"highest": 100}}
    max_steps = 10
    instruction = "Find the number. Actions: a number."
    observation_field = "echoed"
    timeout_s = 1.5


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[str]:
    port = folder / "port"
    port.unlink(missing_ok=True)
    script = Path(__file__).with_name("openenv_server.py")
    process = subprocess.Popen([sys.executable, script, kind, port])
    try:
        deadline = time.monotonic() + 60
        while not port.exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port.read_text()}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=["contract", "openenv"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "openenv" and find_spec("openenv") is None:
        pytest.skip("openenv-core is not installed")
    return request.param


@pytest.fixture(scope="module")
def url(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(kind, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def number(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Number]:
    monkeypatch.setattr(Number, "url", url, raising=False)
    environment = Number()
    yield environment
    environment.close()


def search(environment: Number, task: Task, high: int) -> list[tuple[str, Observation, Grade]]:
    played, low = [], 1
    environment.reset(task)
    while not played or not played[-1][1].done:
        guess = (low + high) // 2
        played.append((str(guess), environment.step(str(guess)), environment.grade()))
        low, high = (guess + 1, high) if played[-1][1].text == "more" else (low, guess - 1)
    return played


def test_an_episode_is_a_function_of_the_task(number: Number) -> None:
    tasks = [Task("number", "large", split, index) for split in ("train", "test") for index in range(6)]
    played = [search(number, task, 100) for task in tasks]
    print_before = number.fingerprint()
    assert [search(number, task, 100) for task in tasks] == played
    assert number.fingerprint() == print_before
    assert len({episode[-1][0] for episode in played}) > 6
    for episode in played:
        assert episode[-1][1:] == (Observation("right", done=True), Grade(1.0, 1.0, True))
        assert all(grade == Grade(0.0, 0.0, False) for *_, grade in episode[:-1])


def test_the_level_is_given_to_reset(number: Number) -> None:
    assert number.reset(TASK).text == "number from 1 to 9"
    assert number.reset(Task("number", "large", "train", 3)).text == "number from 1 to 100"


def test_two_sessions_do_not_meet(number: Number) -> None:
    other = Number()
    number.reset(Task("number", "large", "train", 0))
    other.reset(Task("number", "small", "train", 1))
    try:
        assert search(other, TASK, 9) == search(number, TASK, 9)
        with pytest.raises(EnvironmentFailure, match="capacity"):
            Number().reset(TASK)
    finally:
        other.close()


def test_junk_is_a_normal_action(number: Number) -> None:
    number.reset(TASK)
    for junk in ("", "   ", "go to \x00\x1b[31m", "去", '{"type": "close"}', "a\nb"):
        assert number.step(junk) == Observation(f"{junk[:20]} is no number")
    assert number.step("\ud800 lone") == Observation("? lone is no number")
    # Longer than the server's schema allows: its own words.
    assert number.step("a" * 10_000) == Observation("String should have at most 1000 characters")
    assert not number.grade().success
    assert search(number, TASK, 9)[-1][2].success


def test_a_slow_server_is_a_failure_and_its_late_answer_is_not_read(number: Number) -> None:
    expected = number.reset(TASK)
    started = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=r"number: the OpenEnv server http\S+ did not answer within 1.5 s"):
        number.step("sleep")
    assert time.monotonic() - started < 5
    assert number.reset(TASK) == expected
    assert number.step("word") == Observation("word is no number")


def test_an_error_of_the_server_is_a_failure(number: Number) -> None:
    number.reset(TASK)
    with pytest.raises(EnvironmentFailure, match="failed in a step: out of order"):
        number.step("raise")
    assert search(number, TASK, 9)[-1][2].success


def test_another_field_is_named(number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Number, "observation_field", "answer")
    with pytest.raises(UserError, match="number observes no text in 'answer' but has echoed"):
        number.reset(TASK)


def test_a_server_that_dies_or_is_not_there_is_a_failure(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(kind, tmp_path) as address:
        monkeypatch.setattr(Number, "url", address, raising=False)
        environment = Number()
        environment.reset(TASK)
        with pytest.raises(EnvironmentFailure, match="broke off"):
            environment.step("die")
        with pytest.raises(EnvironmentFailure, match=r"does not answer.*start it"):
            environment.reset(TASK)
        environment.close()
    with pytest.raises(EnvironmentFailure, match=r"does not answer.*start it") as raised:
        Number()
    assert "\n" not in str(raised.value)


def test_close_leaves_no_thread(number: Number) -> None:
    before = {thread.name for thread in threading.enumerate()}
    other = Number()
    other.reset(TASK)
    other.close()
    other.close()
    deadline = time.monotonic() + 5
    while {thread.name for thread in threading.enumerate()} != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {thread.name for thread in threading.enumerate()} == before

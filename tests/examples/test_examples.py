"""Each script in `examples` runs, at tiny size, and shows what it promises; so do the README's lines of Python."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentrm import RunDirectory, TreeStore, load
from agentrm.config.schema import Trees
from agentrm.core.task import Task
from agentrm.models.initial import prepare
from agentrm.search.mcts import TreeSearch
from tests.agentrm.search.toy import BARE, EvenPolicy, ToyGrader, ToySessions
from tests.agentrm.service.gateway.upstream import Endpoint, completion, gateway
from tests.reward_models import served, write_reward_model
from tests.servers import serving

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CONTEXT = 1536
TEXTS = [
    "The goal is at position 3, 3. Your current position is at position 1, 2.",
    "Thought: up.\nAction: move up",
] * 9


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with a policy of random weights and with trees in which every way is tried."""
    location = str(tmp_path_factory.mktemp("run") / "run")
    keys = ["model.scratch.layers=1", "sampling.max_tokens=8", "evaluate.max_depth=2"]
    directory = RunDirectory.open(load("quickstart", [f"run={location}", f"model.context={CONTEXT}", *keys]))
    with directory.writing("policy") as folder:
        prepare(directory.config.model, TEXTS, 0, folder)
    store = TreeStore(directory.at("trees"))
    grower = TreeSearch(EvenPolicy(), ToySessions(), ToyGrader(), Trees(iterations=40, max_depth=9), BARE)
    for index in range(2):
        store.write(asyncio.run(grower.grow(Task("babyai", "goto_obj", "train", index))))
    return location


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scoring service."""
    path = tmp_path_factory.mktemp("model") / "reward"
    write_reward_model(path, TEXTS, CONTEXT)
    with served(path, CONTEXT) as address:
        yield address


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a script with arguments; what it printed."""

    def run_script(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_score_conversation(shown, url: str) -> None:
    lines = shown("score_conversation.py", url).splitlines()
    assert lines[0].startswith("maze.rooms_medium.test.0.0 by tiny")
    right, other = (re.findall(r"-?\d+\.\d\d", line) for line in lines[1:])
    assert len(right) > len(other) - 2 > 1
    assert right[0] == other[0] and right[1:] != other[1:]


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[Endpoint, str]]:
    """An endpoint, and the address of a gateway in front of it that takes the longer of two turns."""
    endpoint = Endpoint()
    with serving(endpoint.app) as address:
        endpoint.url = f"{address}/v1"
        with gateway(endpoint, k=2) as client:
            yield endpoint, f"{client.base_url}/v1"


_calls = count()


def called(name: str, said: str, **arguments: str) -> dict[str, Any]:
    """A turn that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"call-{next(_calls)}", "type": "function", "function": function}
    return {"role": "assistant", "content": said, "tool_calls": [call]}


def walks(body: dict[str, Any]) -> dict[str, Any]:
    """Up or, in more words, down; two steps, and an end."""
    tools = [each["function"]["name"] for each in body["tools"]]
    if sum(each["role"] == "assistant" for each in body["messages"]) < 2:
        return completion(called("move", "Up.", direction="up"), called("move", "Down it is.", direction="down"))
    if "final_answer" in tools:
        return completion(*(called("final_answer", said, answer=said) for said in ("No.", "I stop here.")))
    return completion("No.", "I stop here.")


def test_agent_through_gateway(shown, behind: tuple[Endpoint, str], monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, address = behind
    endpoint.respond = lambda body: completion("Action: move up", "Thought: the other way.\nAction: move down")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    endpoint.requests.clear()
    assert shown("agent_through_gateway.py", address, "m").splitlines() == ["move down [15.0, 41.0]"] * 12
    assert [len(each["messages"]) for each in endpoint.requests] == list(range(1, 25, 2))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("langgraph_through_gateway.py", ["ai Down it is.", "tool The goal is", "ai Down it is.", "ai I stop here."]),
        ("agents_sdk_through_gateway.py", ["tool_call_output_item The goal is", "answer I stop here."]),
        ("smolagents_through_gateway.py", ["answer I stop here.", "[{'direction': 'down'}] The goal is"]),
    ],
)
def test_agents_of_frameworks_through_the_gateway(
    shown, behind: tuple[Endpoint, str], monkeypatch: pytest.MonkeyPatch, script: str, expected: list[str]
) -> None:
    endpoint, address = behind
    endpoint.respond = walks
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    endpoint.requests.clear()
    printed = shown(script, address, "m@best-of-2")
    assert all(line in printed for line in expected), printed
    assert "Up." not in printed and "'up'" not in printed
    assert [each["n"] for each in endpoint.requests] == [2] * 3
    assert {each["model"] for each in endpoint.requests} == {"m"}


def test_own_search(shown, run: str, url: str) -> None:
    printed = shown("own_search.py", run, url)
    scored = re.findall(r"^(.+): outcome 0\.00, (\d+) states scored$", printed, re.MULTILINE)
    assert [label for label, _ in scored] == ["beam 2x2", "best first, 12 rounds of 2"]
    assert all(int(count) > 1 for _, count in scored)


def test_trees_in_duckdb(shown, run: str) -> None:
    printed = shown("trees_in_duckdb.py", run)
    assert re.search(r"babyai +│ goto_obj +│ train +│ +2 +│", printed)
    # The best leaf of the toy is the last one.
    assert len(re.findall(r"babyai\.goto_obj\.train\.\d\.0 +│ +1\.0 +│ right, right, right ", printed)) == 2


def test_own_environment(shown) -> None:
    assert "success=True" in shown("own_environment.py").splitlines()[-1]


def test_own_environment_keeps_the_contract_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "lights-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lights\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[agentrm.environments]\nlights = own_environment:Lights\n")
    tests = [f"tests/agentrm/environments/{name}.py" for name in ("test_conformance", "test_examples")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "lights"]
    path = ":".join(map(str, (ROOT, EXAMPLES, tmp_path)))
    monkeypatch.setenv("PYTHONPATH", path)
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 16


def test_the_lines_of_python_in_the_readme(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "http://127.0.0.1:8000" in lines
    exec(compile(lines.replace("http://127.0.0.1:8000", url), "README.md", "exec"), {})
    assert re.search(r"-?\d\.\d+", capsys.readouterr().out)

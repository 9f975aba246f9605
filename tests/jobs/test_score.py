"""`agentrm score`: values of every step over HTTP and on an engine, what is not scored again, and what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agentrm.core.messages import Conversation
from agentrm.models import explicit
from agentrm.rendering.renderer import Renderer
from jobs import score
from tests.agentrm.episodes import records
from tests.jobs.test_cli import agentrm
from tests.reward_models import served, write_reward_model

CONTEXT = 256


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    write_reward_model(path, [message["content"] for message in records.SPOKEN] * 9, CONTEXT)
    return path


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with served(model, CONTEXT) as address:
        yield address


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(map(line, range(6))))
    return path


def line(number: int) -> str:
    last = {"role": "assistant", "content": f"Take SK {number}."}
    row = {"messages": [*records.SPOKEN[:3], last], "id": str(number), "task_id": number % 2, "reward": number % 3 / 2}
    return json.dumps(row) + "\n"


def stored(path: Path) -> list[dict]:
    return [json.loads(each) for each in path.read_text().splitlines()]


def test_every_step_and_the_whole_have_the_values_of_transformers(
    log: Path, model: Path, url: str, tmp_path: Path
) -> None:
    to = tmp_path / "values.parquet"
    result = agentrm("score", str(log), "--url", url, "--to", str(to))
    assert result.returncode == 0, result.stderr
    rows = pq.read_table(to).to_pylist()
    assert [(row["id"], row["step"], row["last"]) for row in rows[:4]] == [
        ("0", 0, False),
        ("0", 1, False),
        ("0", 2, True),
        ("1", 0, False),
    ]
    assert len(rows) == 18 and {row["task"] for row in rows} == {"0", "1"}
    assert [row["outcome"] for row in rows if row["last"]] == [0, 0.5, 1, 0, 0.5, 1]
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(model).eval()
    renderer = Renderer.from_pretrained(model, CONTEXT)
    messages = json.loads(line(4))["messages"]
    ids = [renderer.ids(Conversation(messages[:count])) for count in (1, 3, 4)]
    assert [row["value"] for row in rows if row["id"] == "4"] == pytest.approx(
        explicit.raw_values(network, ids), abs=1e-5
    )
    assert [row["characters"] for row in rows if row["id"] == "4"] == [17, 17 + 11 + 4, 17 + 11 + 4 + 10]
    assert "reward model" in result.stdout and "longest" in result.stdout


def test_what_is_there_is_not_scored_again(log: Path, url: str, tmp_path: Path) -> None:
    to = tmp_path / "values.jsonl"
    assert "6 episodes were scored" in agentrm("score", str(log), "--url", url, "--to", str(to)).stderr
    first = stored(to)
    assert "0 episodes were scored" in agentrm("score", str(log), "--url", url, "--to", str(to)).stderr
    assert stored(to) == first
    log.write_text("".join(map(line, (0, 1, 2, 9))))
    other = tmp_path / "more.jsonl"
    other.write_text(line(7))
    assert "2 episodes were scored" in agentrm("score", str(log), str(other), "--url", url, "--to", str(to)).stderr
    assert [row["id"] for row in stored(to) if row["last"]] == ["0", "1", "2", "9", "7"]
    refused = agentrm("score", str(log), "--url", "http://127.0.0.1:1", "--to", str(to))
    assert refused.returncode == 2 and url in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_a_command_that_was_cut_goes_on(log: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "values.jsonl"
    monkeypatch.setattr(score, "_PART", 2)
    flush, left = score._Parts.flush, [2]

    def breaks(parts: score._Parts) -> None:
        flush(parts)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(score._Parts, "flush", breaks)
        assert agentrm("score", str(log), "--url", url, "--to", str(to)).returncode
    assert not to.exists()
    again = agentrm("score", str(log), "--url", url, "--to", str(to))
    assert "2 episodes were scored" in again.stderr
    assert [row["id"] for row in stored(to) if row["last"]] == list("012345")
    assert not list(tmp_path.glob(".values*"))


def test_what_is_too_long_has_values_as_far_as_it_can_be_read(url: str, tmp_path: Path) -> None:
    log, to = tmp_path / "log.jsonl", tmp_path / "values.jsonl"
    long = [*records.SPOKEN[:3], {"role": "assistant", "content": "far"}, {"role": "user", "content": "go " * CONTEXT}]
    too_long = [{"role": "user", "content": "go " * CONTEXT}, {"role": "assistant", "content": "far"}]
    log.write_text("".join(json.dumps({"messages": each}) + "\n" for each in (long, too_long)) + "{broken\n")
    result = agentrm("score", str(log), "--url", url, "--to", str(to))
    assert [row["value"] is None for row in stored(to)] == [False, False, True]
    assert "as far as the model can read" in result.stderr
    assert f"{log}, line 2: the conversation has" in result.stderr and f"{log}, line 3" in result.stderr


def test_bad_arguments_are_one_line(log: Path, tmp_path: Path) -> None:
    both = ("--model", "x", "--url", "http://127.0.0.1:1")
    for arguments, told in (
        ((), "--model"),
        (both, "--url"),
        ((*both[2:], "--to", "values.csv"), ".parquet or .jsonl"),
        (("--model", str(tmp_path)), "holds no model"),
    ):
        result = agentrm("score", str(log), *arguments)
        assert result.returncode and told in result.stderr, result.stderr
        assert len([each for each in result.stderr.splitlines() if "error" in each]) == 1

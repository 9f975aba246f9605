"""`agentrm benchmark rewards` on the command line, with a real reward model and without one."""

from __future__ import annotations

import json
from pathlib import Path

from tests.agentrm.episodes import records
from tests.agentrm.evaluation.rewards.test_benchmarks import lines, plan, process
from tests.jobs.test_cli import agentrm
from tests.reward_models import served, write_reward_model

CONTEXT = 256


def test_a_model_stands_beside_what_needs_none(tmp_path: Path) -> None:
    model, data = tmp_path / "models" / "model", tmp_path / "data"
    model.parent.mkdir()
    data.mkdir()
    write_reward_model(model, [message["content"] for message in records.SPOKEN] * 9, CONTEXT)
    short, long = ([{"role": "assistant", "content": text}] for text in ("so", "so " * CONTEXT))
    lines(data / "easy.jsonl", plan(short, long), plan(long, short), plan(short, short))
    lines(data / "qa.jsonl", process(0, [1, 0]), process(1, [1]))
    with served(model, CONTEXT) as url:
        result = agentrm("benchmark", "rewards", "--data", str(data), "--url", url, "--json")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert set(figures) == {"AgentProcessBench", "Plan-RewardBench"}
    pairs = {who: own[0]["value"] for who, own in figures["Plan-RewardBench"].items()}
    # What is too long counts as worst: right, wrong, equal.
    assert pairs["reward model"] == pairs["shorter wins"] == pairs["constant"] == 0.5
    assert "2 of 8 conversations were not read to their end" in result.stderr
    assert figures["AgentProcessBench"]["reward model"][0]["measure"] == "StepAcc"


def test_without_a_model_and_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    lines(tmp_path / "easy.jsonl", plan([{"role": "assistant", "content": "so"}], []), {"x": 1})
    result = agentrm("benchmark", "rewards", "--data", str(tmp_path))
    assert result.returncode == 0 and "shorter wins" in result.stdout and "reward model" not in result.stdout
    assert "easy.jsonl, record 2: not of Plan-RewardBench" in result.stderr
    for arguments, told in (
        (("--data", str(tmp_path / "none")), "--data"),
        (("--data", str(tmp_path), "--model", "a", "--url", "b"), "--model"),
    ):
        refused = agentrm("benchmark", "rewards", *arguments)
        assert refused.returncode == 2 and told in refused.stderr and len(refused.stderr.splitlines()) == 1

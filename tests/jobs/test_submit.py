"""What a job is on a cluster before any cluster is asked, and that its command is one."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agentrm.cluster.kuberay import entrypoint
from agentrm.core.errors import UserError
from agentrm.data.trees import TreeStore
from jobs.submit import checked
from tests.agentrm.episodes import records


def test_the_keys_of_an_import_are_checked_with_the_preset_of_its_command() -> None:
    config, keys = checked("import", "", ["s3://bucket/logs", "outcome=won", "run=s3://bucket/run"])
    assert (config.run, config.episodes.outcome, config.model.source) == ("s3://bucket/run", "won", "smollm2")
    assert keys == ["episodes.outcome=won", "run=s3://bucket/run"]
    assert checked("train", "", [])[0].run == "runs/quickstart"
    assert checked("score", "", ["logs", "--model", "judge", "reward_engine.replicas=2"])[0].reward_engine.replicas == 2


@pytest.mark.parametrize(
    ("job", "arguments", "told"),
    [
        ("import", ["run=runs/mine"], "which episodes"),
        ("import", ["logs", "outcom=won"], "outcom"),
        ("score", ["logs", "--url", "http://a", "--api-key", "secret"], "would show --api-key"),
        ("export", ["runs/mine"], "choose one of .*import, score, experiment, reproduce"),
        ("experiment", ["run=runs/mine"], "which experiment.* reward-kinds"),
        ("experiment", ["painting", "seed=1"], "no experiment 'painting'"),
        ("reproduce", [], "which table.* main, robustness"),
        ("reproduce", ["tables"], "no table 'tables': choose one of main, robustness"),
    ],
)
def test_what_cannot_be_a_job_is_told(job: str, arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        checked(job, "", arguments)


def test_a_table_is_made_by_the_preset_of_its_command_and_asks_nobody() -> None:
    assert checked("reproduce", "", ["ablation", "seed=3"])[1] == ["seed=3"]
    command = shlex.split(entrypoint("reproduce", "quickstart", ["ablation", "run=runs/mine"]))
    # What the job itself prints where nothing is there yet, with the option that only says so.
    result = subprocess.run([sys.executable, *command[1:], "--plan"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--yes" in command and "state-ablation" in result.stdout


def test_the_command_of_an_import_makes_trees(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(records.OPENAI) + "\n")
    command = shlex.split(entrypoint("import", "imported", [str(log), f"run={tmp_path / 'run'}"]))
    assert command[0] == "python"
    result = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(list(TreeStore(tmp_path / "run" / "trees").trees())) == 1

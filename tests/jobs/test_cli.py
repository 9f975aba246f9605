"""The command line: help, exit codes, and errors of one line that name the thing."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentrm.config.loading import load, resolved
from agentrm.core.task import SPLITS, Task
from agentrm.core.tree import Node, Tree
from agentrm.environments.registry import make, names
from agentrm.evaluation.experiments import EXPERIMENTS
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import quality
from agentrm.run import RunDirectory
from jobs.cli import app, main
from tests.agentrm.evaluation.test_pooling import OUTCOMES, evaluated

STAGES = ("demonstrations", "clone", "trees", "train", "serve", "evaluate", "search", "pipeline")
AGENTRM = Path(sys.executable).with_name("agentrm")


def agentrm(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """The command in this process, which has imported already what a new one would need seconds for."""
    read, out, err = io.StringIO(typed), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["agentrm", *arguments])
        for name, stream in (("stdin", read), ("stdout", out), ("stderr", err)):
            patch.setattr(sys, name, stream)
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(["agentrm", *arguments], code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("command", [*STAGES, "experiment", "pool", "view", "play", "environments", "cluster"])
def test_every_command_explains_itself(command: str) -> None:
    assert command in CliRunner().invoke(app, ["--help"]).stdout
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    if command in STAGES:
        assert "--preset" in result.stdout
        assert "KEY=VALUE" in result.stdout


@pytest.mark.parametrize("command", STAGES)
def test_a_misspelt_preset_is_one_line_on_stderr(command: str) -> None:
    result = agentrm(command, "--preset", "quickstrat")
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "quickstrat" in result.stderr
    assert "quickstart" in result.stderr


def test_an_unknown_key_is_named_before_anything_starts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = agentrm("pipeline", f"run={run}", "clone.epoch=3")
    assert result.returncode == 2
    assert "clone.epoch" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not run.exists()


def test_a_stage_without_its_input_names_the_command_that_makes_it(tmp_path: Path) -> None:
    result = agentrm("serve", f"run={tmp_path / 'run'}")
    assert result.returncode == 2
    assert "`agentrm train`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_command_is_installed() -> None:
    result = subprocess.run([AGENTRM, "trees", "--fast"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 2 and "--fast" in result.stderr


def test_help_and_what_only_writes_text_wait_for_no_library() -> None:
    script = """
import sys
from jobs.cli import main
with open(sys.argv.pop(1), "w") as told:
    try:
        main()
    finally:
        told.write(" ".join({"torch", "ray", "transformers", "pandas", "matplotlib", "vllm"} & set(sys.modules)))
"""
    render = ["cluster", "render", "--image", "a/b:c", "--preset", "llama3-8b-cluster", "run=s3://bucket/run"]
    for arguments in (["--help"], ["train", "--help"], render):
        command = [sys.executable, "-c", script, "/dev/stderr", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.stdout and not result.stderr, (arguments, result.stderr)


def test_environments_as_json() -> None:
    rows = json.loads(agentrm("environments", "--json").stdout)
    assert [row["name"] for row in rows] == names()
    for row in rows:
        assert row["installed"], row["problem"]
        assert row["kinds"]
        assert all(row["tasks"][split] > 0 for split in SPLITS)
        assert row["restore"] in ("snapshot", "replay")
        assert "step_ms" not in row  # measured only with --measure


def test_environments_as_a_table() -> None:
    shown = agentrm("environments").stdout
    for name in names():
        assert name in shown


def test_play_to_the_end_with_hints() -> None:
    task = Task("babyai", "goto_local", "train", 3)
    environment = make("babyai")
    environment.reset(task)
    oracle = environment.expert_actions()
    environment.close()
    typed = "actions\n" + "".join(f"hint\n{action}\n" for action in oracle)
    result = agentrm("play", "babyai", "--kind", "goto_local", "--index", "3", typed=typed)
    assert result.returncode == 0
    for action in oracle:
        assert f"> {action}\n" in result.stdout
    assert f"solved in {len(oracle)} actions: outcome 1.00, progress 1.00" in result.stdout


def test_play_that_ends_early_is_not_solved() -> None:
    result = agentrm("play", "babyai", "--kind", "goto_local", "--index", "3", typed="turn left\nhint\n")
    assert "> go to green box 1\n" in result.stdout
    assert "not solved in 1 actions: outcome 0.00" in result.stdout  # the box was in view from the start


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["chess"], "unknown environment 'chess'"),
        (["babyai", "--kind", "goto_mars"], "goto_mars"),
        (["babyai", "--index", "99999"], "99999"),
        (["babyai", "--split", "dev"], "dev"),
    ],
)
def test_a_task_that_does_not_exist_is_named(arguments: list[str], told: str) -> None:
    result = agentrm("play", *arguments)
    assert result.returncode == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_quality_of_a_runs_reward_model_for_people_and_programs(tmp_path: Path) -> None:
    nodes = [Node(-1, 0, "", value=0.5), Node(0, 1, "", "a", value=0.9), Node(0, 1, "", "b", value=0.1)]
    trees = [Tree(Task("toy", "kind", "train", index), nodes) for index in range(3)]
    measured = quality(trees, [{0: 0.5, 1: 0.1, 2: 0.9}] * 3, Settings(100, 0.9, 0), {"toy.kind"})
    untrained = agentrm("evaluate", "--reward-models", str(tmp_path))
    assert untrained.returncode == 2 and "no run of AgentRM" in untrained.stderr
    run = RunDirectory.open(load("quickstart", [f"run={tmp_path}"]))
    untrained = agentrm("evaluate", "--reward-models", str(tmp_path))
    assert untrained.returncode == 2 and "agentrm train" in untrained.stderr
    run.write_metrics("train", {"held_out": measured})
    assert json.loads(agentrm("evaluate", "--reward-models", str(tmp_path), "--json").stdout) == measured
    shown = agentrm("evaluate", "--reward-models", str(tmp_path)).stdout
    assert "…" not in shown
    assert "model is not shown to beat random, length, policy log-probability" in " ".join(shown.split())


def test_runs_are_pooled(tmp_path: Path) -> None:
    runs = [evaluated(tmp_path, name, OUTCOMES, tasks) for name, tasks in (("one", "ab"), ("two", "cdef"))]
    found = json.loads(agentrm("pool", *runs, "--json").stdout)
    assert found["held-in"]["best of 5"]["tasks"] == 6
    assert found["held-in"]["best of 5"]["best_lead"] == pytest.approx(0.75)
    assert "lead over best without +.75 [.75,.75]" in " ".join(agentrm("pool", *runs).stdout.split())
    again = agentrm("pool", runs[0], runs[0])
    assert again.returncode == 2 and "were both evaluated on the task a" in again.stderr


def test_a_reward_model_is_measured_on_the_trees_of_a_run(tmp_path: Path) -> None:
    for arguments, told in (
        (["--trees", str(tmp_path)], "name it with --reward-models"),
        (["--trees", str(tmp_path / "none"), "--reward-models", str(tmp_path)], "no run of AgentRM"),
    ):
        result = agentrm("evaluate", *arguments)
        assert result.returncode == 2 and told in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_the_benchmark_explains_itself_and_needs_a_policy(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["benchmark", "trees", "--help"])
    assert result.exit_code == 0 and "--json" in result.stdout and "--seconds" in result.stdout
    result = agentrm("benchmark", "trees", f"run={tmp_path / 'run'}")
    assert result.returncode == 2 and "`agentrm clone`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_search_names_a_task_and_a_method(tmp_path: Path) -> None:
    result = agentrm("search", "--task", "babyai.goto_mars.test.3", f"run={tmp_path / 'run'}")
    assert result.returncode == 2 and "goto_mars" in result.stderr and len(result.stderr.splitlines()) == 1
    assert agentrm("search", "--method", "bream").returncode == 2


def test_the_experiments_are_listed_and_named() -> None:
    listed = agentrm("experiment", "--list").stdout
    assert all(
        f"{name}: {about.question}\n  In the paper: {about.paper}" in listed for name, about in EXPERIMENTS.items()
    )
    for arguments in ([], ["weak-to-weak"]):
        result = agentrm("experiment", *arguments)
        assert result.returncode == 2 and "weak-to-strong" in result.stderr and len(result.stderr.splitlines()) == 1


def test_jobs_take_the_same_arguments(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.experiment", "generalisation", f"run={tmp_path / 'run'}", "train.beta=0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "train.beta" in refused.stderr


def test_a_view_needs_a_run_and_a_free_port(tmp_path: Path) -> None:
    result = agentrm("view", str(tmp_path))
    assert result.returncode == 2 and f"{tmp_path} is no run" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    (tmp_path / "config.yaml").write_text(resolved(load("quickstart")))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = agentrm("view", str(tmp_path), "--port", port)
    assert result.returncode == 2 and port in result.stderr and "--port" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_statistics_of_trees_need_trees(tmp_path: Path) -> None:
    result = agentrm("trees", "--stats", f"run={tmp_path / 'run'}")
    assert result.returncode == 2 and "`agentrm trees`" in result.stderr
    assert len(result.stderr.splitlines()) == 1

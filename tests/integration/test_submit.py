"""Job submission to a real head that wants a token: a job runs to its end, others are stopped, a service with one."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from agentrm.service.client import ScoringClient
from tests.integration.heads import home
from tests.jobs.test_cli import agentrm as in_this_process
from tests.reward_models import write_reward_model
from tests.servers import free_port, free_ports

TINY = "tests/integration/tiny.yaml"
KEY = "right-key"
_MAZES = "tasks.demonstrations=[{environment: maze, kinds: [perfect_small], count: 4}]"
_OFFICIAL = "{environment: pddl, kinds: [blocksworld], split: test, count: 1}"
_BLOCKS = """(define (problem p) (:domain blocksworld-4ops) (:objects b1 b2) ; 1) two blocks
(:init (arm-empty) (on-table b1) (on-table b2) (clear b1) (clear b2)) (:goal (on b2 b1)))"""


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """The environment of a user of this head."""
    port, dashboard, agent, agent_grpc = free_ports(4)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "AGENTRM_API_KEY": KEY}
    command = ["ray", "start", "--head", f"--port={port}", "--num-cpus=4"]
    command += [f"--dashboard-port={dashboard}", "--object-store-memory=100000000"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
    with home() as directory:
        command.append(f"--temp-dir={directory}")
        subprocess.run(command, env={**os.environ, **token}, check=True, stdout=subprocess.DEVNULL)
        yield {**os.environ, **token, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}


def agentrm(user: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from jobs.cli import main; main()", *arguments]
    return subprocess.run(command, env=user, capture_output=True, text=True, timeout=300)


def log(user: dict[str, str], name: str) -> str:
    """The log of a job so far; this follows it until it ends."""
    agentrm(user, "job", "stop", name)
    return agentrm(user, "job", "logs", name).stdout


def test_a_job_runs_on_the_cluster_with_the_users_data_and_its_log_is_here(
    head: dict[str, str], tmp_path: Path
) -> None:
    """The head was started without the variable that names the data."""
    (tmp_path / "data" / "blockworld").mkdir(parents=True)
    (tmp_path / "data" / "blockworld" / "p1.pddl").write_text(_BLOCKS)
    user = head | {"AGENTBOARD_PDDL": str(tmp_path / "data")}
    both = f"{_MAZES[:-1]}, {_OFFICIAL}]"
    found = agentrm(user, "submit", "demonstrations", "--preset", TINY, f"run={tmp_path / 'run'}", both)
    assert found.returncode == 0, found.stderr
    name = found.stdout.strip().splitlines()[-1]
    assert "5 demonstrations, 5 of 5 tasks" in found.stdout
    rows = pq.read_table(tmp_path / "run" / "demonstrations").to_pylist()
    assert [row["data"] for row in rows[:4]] == [""] * 4
    assert rows[4]["data"].startswith("official-")
    assert rows[4]["messages"][1]["content"].endswith("pickup b2")
    assert agentrm(head, "job", "status", name).stdout == "SUCCEEDED\n"


def test_a_job_is_stopped(head: dict[str, str], tmp_path: Path) -> None:
    many = _MAZES.replace("count: 4", "count: 5000")
    found = agentrm(head, "submit", "demonstrations", "--preset", TINY, f"run={tmp_path / 'run'}", many, "--no-wait")
    assert found.returncode == 0, found.stderr
    name = found.stdout.strip()
    assert agentrm(head, "job", "stop", name).returncode == 0
    deadline = time.monotonic() + 300
    while (state := agentrm(head, "job", "status", name).stdout.strip()) != "STOPPED":
        assert state in ("PENDING", "RUNNING") and time.monotonic() < deadline
        time.sleep(0.5)


def test_a_service_answers_until_its_job_is_stopped(head: dict[str, str], tmp_path: Path) -> None:
    model, port = tmp_path / "reward", free_port()
    write_reward_model(model, ["Your task: go to the red ball."], 128)
    keys = [f"run={tmp_path / 'run'}", f"serve.model={model}", "model.context=128", f"serve.port={port}"]
    keys.append("serve.api_key=${oc.env:AGENTRM_API_KEY}")
    found = agentrm(head, "submit", "serve", "--preset", TINY, *keys, "--no-wait")
    assert found.returncode == 0 and KEY not in found.stderr, found.stderr
    name = found.stdout.strip()
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 300
    while not answers(address):
        assert agentrm(head, "job", "status", name).stdout.strip() in ("PENDING", "RUNNING"), log(head, name)
        assert time.monotonic() < deadline, log(head, name)
        # Each question is a process that takes seconds of what the service starts with.
        time.sleep(3)
    with ScoringClient(address, api_key=KEY) as client:
        assert len(client.score([[{"role": "user", "content": "Your task: go to the red ball."}]])) == 1
    assert agentrm(head, "job", "stop", name).returncode == 0
    deadline = time.monotonic() + 300
    while answers(address):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def test_what_is_wrong_is_one_line(head: dict[str, str]) -> None:
    before_it_is_asked = (
        (("submit", "paint"), "no job 'paint'"),
        (("submit", "trees", "trees.iteratons=3"), "iteratons"),
        (("submit", "serve", "serve.api_key=hush"), "list of jobs"),
        (("submit", "experiment"), "which experiment?"),
        (("submit", "experiment", "painting", "seed=1"), "no experiment 'painting'"),
        (("submit", "experiment", "weak-to-strong", "evaluate.strong=[clone.epoch=2]"), "clone.epoch"),
        (("submit", "experiment", "generalisation", "run=runs/none", "--preset", TINY), "two environments or kinds"),
    )
    for arguments, told in before_it_is_asked:
        one_line(in_this_process(*arguments), told)
    one_line(agentrm(head, "job", "stop", "raysubmit_none"), "there is no job raysubmit_none")
    nobody = {**head, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{free_port()}"}
    found = agentrm(nobody, "job", "status", "raysubmit_none")
    assert found.returncode == 2 and "no Ray dashboard answers" in found.stderr, found.stderr


def one_line(found: subprocess.CompletedProcess[str], told: str) -> None:
    assert found.returncode == 2 and told in found.stderr and found.stderr.count("\n") == 1, found.stderr
    assert "hush" not in found.stderr

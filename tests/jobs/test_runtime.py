"""From arguments to exit codes, and clusters that end with their block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from agentrm.config.schema import Cluster, Config
from agentrm.core.errors import EnvironmentFailure, ModelError, UserError
from jobs.runtime import cluster, execute


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("a"), 2), (EnvironmentFailure("b"), 3), (ModelError("c"), 4), (KeyboardInterrupt(), 130)],
)
def test_expected_errors_are_a_line_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Config) -> None:
        raise error

    assert execute(run, "quickstart") == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert str(error) in printed.err


def test_a_bug_keeps_its_traceback() -> None:
    def run(_: Config) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        execute(run, "quickstart")


def test_the_job_gets_the_configuration() -> None:
    seen: list[Config] = []
    assert execute(seen.append, "quickstart", ["seed=17"]) == 0
    assert seen[0].seed == 17


def test_a_cluster_ends_with_its_block_and_hands_over_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JERICHO_ROMS", "roms")
    config = Config(cluster=Cluster(cpus=3, object_store_gib=0.1))

    @ray.remote
    def variables() -> dict[str, str]:
        return dict(os.environ)

    @ray.remote
    def fail() -> None:
        raise UserError("the file x is missing: make it")

    with cluster(config):
        assert ray.cluster_resources()["CPU"] == 3
        with cluster(config):
            pass
        assert ray.is_initialized()
        seen = ray.get(variables.remote())
        assert seen["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        assert seen["OMP_NUM_THREADS"] == "1"
        # Ray's processes have more than 30 s to start.
        assert seen["RAY_raylet_start_wait_time_s"] == "180"
        assert seen["RAY_AUTH_MODE"] == "token"
        assert seen["JERICHO_ROMS"] == str(Path("roms").absolute())
        # What Serve asks for all clusters of a machine by default.
        assert seen["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] != "8500"
        assert execute(lambda _: ray.get(fail.remote()), "quickstart") == 2
        assert capsys.readouterr().err == "error: the file x is missing: make it\n"
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Cluster(object_store_gib=1e-4), "change cluster.cpus or cluster.object_store_gib"),
        (Cluster(address="nonsense"), "the Ray cluster at nonsense cannot be used: Invalid address format"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_a_line_with_the_fix(settings: Cluster, told: str) -> None:
    with pytest.raises(UserError) as caught, cluster(Config(cluster=settings)):
        pass
    assert told in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_an_address_that_does_not_answer_is_named() -> None:
    """In a process of its own: Ray's client retries for a while and keeps what it has seen."""
    code = (
        "from jobs.runtime import cluster\nfrom agentrm.config.schema import *\n"
        "with cluster(Config(cluster=Cluster(address='127.0.0.1:1'))): pass"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stderr.splitlines()[-1].startswith(
        "agentrm.core.errors.UserError: no Ray cluster answers at 127.0.0.1:1"
    )

"""From arguments to exit codes, the progress lines, and clusters that end with their block."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from agentrm.config.schema import Cluster, Config
from agentrm.errors import EnvironmentFailure, ModelError, UserError
from jobs import progress as progress_module
from jobs.progress import progress
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
        assert seen["RAY_AUTH_MODE"] == "token"
        assert seen["JERICHO_ROMS"] == str(Path("roms").absolute())
        assert execute(lambda _: ray.get(fail.remote()), "quickstart") == 2
        assert capsys.readouterr().err == "error: the file x is missing: make it\n"
    assert not ray.is_initialized()


def test_an_address_that_does_not_answer_is_named() -> None:
    """In a process of its own: Ray's client retries for a while and keeps what it has seen."""
    code = (
        "from jobs.runtime import cluster\nfrom agentrm.config.schema import *\n"
        "with cluster(Config(cluster=Cluster(address='127.0.0.1:1'))): pass"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stderr.splitlines()[-1].startswith("agentrm.errors.UserError: no Ray cluster answers at 127.0.0.1:1")


def test_progress_without_a_terminal_is_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_LINE_S", 0.0)
    with progress("trees", 5, done=2) as bar:
        bar.advance(1, outcome=0.51234)
        bar.advance(2, failed=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" elapsed")[0] for line in lines] == ["trees 3/5", "trees 5/5"]
    assert lines[0].endswith("outcome 0.512")
    assert "left 0 s" in lines[1]
    assert lines[1].endswith("outcome 0.512, failed 1")


def test_progress_shows_the_last_count_once_when_work_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("tasks", 3) as bar:
        for _ in range(3):
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tasks 3/3")


def test_progress_in_a_terminal_is_a_bar() -> None:
    command = (
        "from jobs.progress import progress\nwith progress('trees', 2) as bar:\n bar.advance(1, won=1)\n bar.advance(1)"
    )
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", command], stderr=side)
    assert process.wait(60) == 0
    os.set_blocking(main, False)
    shown = os.read(main, 65536).decode()
    assert "2/2" in shown
    assert "won 1" in shown
    assert "━" in shown

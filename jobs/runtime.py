"""What every job shares: the Ray cluster it runs on, and the way from command-line arguments to an exit code."""

from __future__ import annotations

import argparse
import os
import random
import secrets
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.core.errors import AgentRMError, UserError, reason
from agentrm.environments import data_variables
from jobs.terminal.progress import progress

__all__ = ["cluster", "execute", "main", "progress"]

_INTERRUPTED = 130
_CONNECT_S = 10
_START_S = 180
_PORTS = range(20_000, 30_000)

_LOCAL = {
    # Ray starts workers at niceness 15, so that the driver and Ray itself would interrupt the engines.
    "RAY_worker_niceness": "0",
    # On a busy machine the parts of Ray need more than the 30 or 60 s that each of them has to start.
    "RAY_gcs_server_port_wait_time_s": str(_START_S),
    "RAY_raylet_start_wait_time_s": str(_START_S),
    "RAY_agent_register_timeout_ms": str(1000 * _START_S),
    "RAY_worker_register_timeout_seconds": str(_START_S),
}
"""What Ray's processes on this machine read when they start; what the user has set wins."""


@contextmanager
def cluster(config: Config) -> Iterator[None]:
    """Connect to a Ray cluster for the block: `cluster.address`, else RAY_ADDRESS, else a local one that ends with it.

    A cluster that this process is already connected to is used as it is. Raises UserError when the address does not
    answer, or no local one starts.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = config.cluster.address or os.environ.get("RAY_ADDRESS", "")
    variables = _worker_environment(config)
    # Unix sockets lie there, whose paths must be short.
    with TemporaryDirectory(prefix="agentrm-", dir="/tmp") as files:
        try:
            if address:
                _check_listening(address)
                # What a submitted job was given is among the variables, which Ray takes for a conflict.
                os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
                ray.init(address, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level="error")
            else:
                _use_private_token()
                for name, value in _LOCAL.items():
                    os.environ.setdefault(name, value)
                ray.init(
                    "local",
                    num_cpus=config.cluster.cpus,
                    object_store_memory=int(config.cluster.object_store_gib * 2**30),
                    runtime_env={"env_vars": _proxy_of_its_own(files) | variables},
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="error",
                )
        except Exception as error:  # Ray raises whatever it met, and a bare Exception when a start took too long
            ray.shutdown()
            raise UserError(_not_there(address, error)) from error
        try:
            yield
        finally:
            ray.shutdown()


def execute(run: Callable[[Config], Any], preset: str, overrides: Sequence[str] = ()) -> int:
    """Load the configuration, run the job and return its exit code; an expected error is one line on stderr."""
    try:
        run(load(preset, overrides))
    except KeyboardInterrupt:
        print("interrupted: the same command continues where this one stopped", file=sys.stderr)
        return _INTERRUPTED
    except AgentRMError as error:
        # Ray hands over an actor's error with the remote traceback as its text; the cause has the line that was meant.
        cause = getattr(error, "cause", error)
        print(f"error: {cause}", file=sys.stderr)
        return cause.exit_code
    return 0


def main(run: Callable[..., Any], **choices: Sequence[str]) -> None:
    """`python -m jobs.X [--preset NAME_OR_FILE] [key=value ...]`, for `ray job submit`.

    `choices`: arguments of `run` that stand before the keys, and what each may be.
    """
    parser = argparse.ArgumentParser(description=sys.modules[run.__module__].__doc__)
    for name, allowed in choices.items():
        parser.add_argument(name, choices=allowed)
    parser.add_argument("--preset", default="quickstart", help="a preset's name or a YAML file (default: %(default)s)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes to the preset, such as clone.epochs=1"
    )
    arguments = parser.parse_intermixed_args()
    chosen = {name: getattr(arguments, name) for name in choices}
    sys.exit(execute(lambda config: run(config, **chosen), arguments.preset, arguments.overrides))


def _not_there(address: str, error: Exception) -> str:
    """Why there is no cluster, and what to do."""
    why = reason(error).rstrip(".")
    if not address:
        remedy = "run the same command again when the machine is less busy, or set cluster.address to a running cluster"
        if isinstance(error, ValueError):
            remedy = "change cluster.cpus or cluster.object_store_gib"
        return f"Ray could not be started on this machine: {why}; {remedy}"
    remedy = "set cluster.address or RAY_ADDRESS, or leave both empty"
    if isinstance(error, OSError):
        return f"no Ray cluster answers at {address}: {remedy}"
    return f"the Ray cluster at {address} cannot be used: {why}; {remedy}"


def _check_listening(address: str) -> None:
    """Raise OSError at once when nothing listens at `host:port` or `ray://host:port`: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()


def _use_private_token() -> None:
    """Give a local cluster a token of its own, in memory, unless the user has one: its ports face the network."""
    named = any(key in os.environ for key in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if not named and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _worker_environment(config: Config) -> dict[str, str]:
    """Variables that the libraries read when a worker imports them; what the user has set wins."""
    variables = {
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if not any(
        (
            config.policy_engine.gpus,
            config.reward_engine.gpus,
            config.clone.gpus_per_worker,
            config.train.gpus_per_worker,
        )
    ):
        variables["OMP_NUM_THREADS"] = "1"
    haproxy = Path(sysconfig.get_path("scripts"), "agentrm-haproxy")
    if haproxy.exists():
        # With Serve's own proxy a short request takes half as long again. A replica that goes stays for as long as
        # HAProxy may take to hear of it.
        variables |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        }
    variables = {key: os.environ.get(key, value) for key, value in variables.items()}
    handed = ("RAY_SERVE_", "HF_HUB_OFFLINE", "OPENAI_API_KEY", "WANDB_", "MLFLOW_")
    return variables | {key: value for key, value in os.environ.items() if key.startswith(handed)} | data_variables()


def _proxy_of_its_own(directory: str) -> dict[str, str]:
    """Serve's variables for where HAProxy's files lie and what it asks while a replica is gone: with Serve's defaults
    clusters on one machine write into each other's files, and answer each other's requests.
    """
    files = {
        "CONFIG_FILE_LOC": "haproxy.cfg",
        "SOCKET_PATH": "admin.sock",
        "SERVER_STATE_BASE": "",
        "SERVER_STATE_FILE": "server-state",
        "METRICS_SOCKET_PATH": "metrics.sock",
    }
    return {
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free_port()),
        **{f"RAY_SERVE_HAPROXY_{name}": str(Path(directory, file)) for name, file in files.items()},
    }


def _free_port() -> int:
    """A port that nothing listens on, and that Linux gives to no connection before it is used."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise UserError(f"all ports from {_PORTS[0]} to {_PORTS[-1]} of this machine are taken")

"""Jobs on a cluster by Ray's job submission: start one, follow its log, ask how it is, stop it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agentrm.cluster.kuberay import REPRODUCE, WITH_SOURCES, entrypoint
from agentrm.config.loading import changed, load
from agentrm.config.schema import Config
from agentrm.core.errors import AgentRMError, UserError, chosen
from agentrm.environments import data_variables
from agentrm.evaluation.experiments import EXPERIMENTS, TABLES, variants
from jobs.importing import told_apart

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_EXPERIMENT = "experiment"
_STAGES = ("demonstrations", "clone", "trees", "train", "evaluate", "pipeline", "serve", "gateway", "improve")
# What the name after such a job may be, with the experiments that it stands for.
_NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    _EXPERIMENT: {name: (name,) for name in EXPERIMENTS},
    REPRODUCE: TABLES,
}
JOBS = (*_STAGES, *WITH_SOURCES, *_NAMES)

_AGENT_S = 180.0
"""How long a cluster that has just started may take until it takes jobs."""

_STOP_S = 60
"""How long a job that is stopped may take to end its actors and its service before Ray kills it, 3 s unless told."""

# What a job never reads: Ray refuses to upload more than half a gigabyte.
_EXCLUDES = ["/.git/", "/.venv/", "/runs/"]


class JobFailed(AgentRMError):
    """A job that ended without success."""


def submit(job: str, preset: str, arguments: Sequence[str], address: str, wait: bool) -> str:
    """Send the current directory and start a job there; with `wait` follow its log to the end.

    Returns the job's id. `arguments` are keys with their values, after the name of an experiment or a table or, of jobs
    on episodes, with sources and options. `address` is the dashboard's, `http://host:8265`; empty:
    RAY_API_SERVER_ADDRESS or localhost. The job looks for official data where the variables here say. Raises UserError
    for an unknown job, experiment or table, a wrong configuration, an API key in plain sight or an address that does
    not answer, JobFailed when the job that was waited for failed.
    """
    checked(job, preset, arguments)
    command = entrypoint(job, preset or _default_preset(job), arguments)
    name = _submitted(_client(address), command)
    print(f"job {name}: {command}", file=sys.stderr)
    if wait:
        follow(name, address)
    return name


def _default_preset(job: str) -> str:
    """The preset of `agentrm JOB`."""
    return "imported" if job in WITH_SOURCES else "llama3-8b" if job == REPRODUCE else "quickstart"


def checked(job: str, preset: str, arguments: Sequence[str]) -> tuple[Config, list[str]]:
    """The configuration of a job for a cluster, by the preset or else the command's own, and the keys among its
    arguments. Raises UserError as `submit` does.
    """
    chosen("job", job, dict.fromkeys(JOBS))
    keys = list(arguments)
    if job in WITH_SOURCES:
        sources, keys = told_apart(arguments)
        if not sources:
            raise UserError(f"which episodes? Name files or directories that the cluster can read after {job}")
        if any(source.startswith("--api-key") for source in sources):
            raise UserError("the cluster's list of jobs would show --api-key: score with --model there, or from here")
    experiments: Sequence[str] = ()
    if known := _NAMES.get(job):
        named = bool(keys) and "=" not in keys[0]
        experiments = chosen("table" if job == REPRODUCE else job, keys.pop(0) if named else "", known)
    config = load(preset or _default_preset(job), keys)
    for experiment in experiments:
        for overrides in variants(experiment, config).values():
            changed(config, overrides)
    for group, secret in (("serve", config.serve.api_key), ("gateway", config.gateway.api_key)):
        if secret and any(key.startswith(group) and secret in key for key in keys):
            raise UserError(
                f"the cluster's list of jobs would show the key {group}.api_key: set AGENTRM_API_KEY here and on its "
                f"nodes, and give '{group}.api_key=${{oc.env:AGENTRM_API_KEY}}'"
            )
    return config, keys


def _submitted(client: JobSubmissionClient, command: str) -> str:
    environment = {
        "working_dir": str(Path.cwd()),
        "excludes": _EXCLUDES,
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S), **data_variables()},
    }
    deadline = time.monotonic() + _AGENT_S
    while True:
        try:
            return client.submit_job(entrypoint=command, runtime_env=environment)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise UserError(f"the cluster takes no job: {str(error).strip().splitlines()[0]}") from error
            time.sleep(1)


def follow(name: str, address: str) -> None:
    """Print a job's log until it ends; an interrupt leaves it running. Raises JobFailed when it did not succeed."""
    import asyncio

    client = _known(name, address)

    async def tail() -> None:
        async for lines in client.tail_job_logs(name):
            print(lines, end="", flush=True)

    try:
        asyncio.run(tail())
    except KeyboardInterrupt:
        print(f"job {name} goes on: `agentrm job stop {name}` ends it", file=sys.stderr)
        raise
    info = client.get_job_info(name)
    if info.status != "SUCCEEDED":
        reason = (info.message or "").strip().partition("\n")[0]
        raise JobFailed(f"job {name} ended as {info.status.value}: {reason}")


def status(name: str, address: str) -> str:
    """PENDING, RUNNING, SUCCEEDED, STOPPED or FAILED."""
    return str(_known(name, address).get_job_status(name).value)


def stop(name: str, address: str) -> None:
    """Ask a job to end; what it has committed stays."""
    _known(name, address).stop_job(name)


def _known(name: str, address: str) -> JobSubmissionClient:
    client = _client(address)
    try:
        client.get_job_status(name)
    except RuntimeError as error:
        raise UserError(f"there is no job {name} at {address or 'the default address'}") from error
    return client


def _client(address: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address or None)
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"no Ray dashboard answers at {address or 'the default address'}: {reason}") from error

"""Ray's own autoscaler, on nodes that are processes here: a fleet that grows brings nodes, and they leave again."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.util import get_node_ip_address

from actors import scaling
from actors.fleet import Fleet, Size
from actors.scaling import scaled
from tests.integration.heads import home
from tests.processes import in_new_process
from tests.servers import free_port

_DEADLINE_S = 300


@ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
class Worker:
    """Sleeps on request."""

    def __init__(self) -> None:
        self._load = 0

    async def work(self, seconds: float) -> str:
        self._load += 1
        await asyncio.sleep(seconds)
        self._load -= 1
        return ray.get_runtime_context().get_node_id()

    async def load(self) -> int:
        return self._load


def settings(port: int) -> dict[str, object]:
    """A head of one CPU, and up to three nodes of two."""
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        **{f"{name}_commands": [] for name in commands},
        "cluster_name": "fake",
        "max_workers": 3,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "head_node_type": "ray.head.default",
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": f"{get_node_ip_address()}:{port}",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 2, "object_store_memory": 100 * 2**20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 3,
            },
        },
    }


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A head with the autoscaler."""
    port = free_port()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    environment = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    with home() as directory:
        (directory / "autoscaling.json").write_text(json.dumps(settings(port)))
        command = ["ray", "start", "--head", f"--port={port}", f"--temp-dir={directory}", "--num-cpus=1"]
        command += [f"--autoscaling-config={directory / 'autoscaling.json'}", "--include-dashboard=false"]
        subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
        yield f"{get_node_ip_address()}:{port}"


def nodes() -> int:
    """Live nodes beside the head."""
    return sum(node["Alive"] for node in ray.nodes()) - 1


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{nodes()} nodes"
        await asyncio.sleep(0.2)


async def grow_and_shrink(fleet: Fleet) -> None:
    turns = count()
    backlog = True
    places: set[str] = set()

    def choose() -> str:
        return fleet.names[next(turns) % len(fleet.names)]

    async def work(name: str) -> str:
        return await fleet.find(name).work.remote(1.0)

    async def lane() -> None:
        while backlog:
            places.add(await fleet.ask(choose, work))

    async with scaled({fleet: None}):
        await fleet.ask(choose, work)
        assert nodes() == 0
        lanes = [asyncio.create_task(lane()) for _ in range(12)]
        await until(lambda: len(fleet.names) == 4)
        assert nodes() == 2, "three more members need two nodes of two CPUs"
        await until(lambda: len(places) == 3)
        backlog = False
        await asyncio.gather(*lanes)
        await until(lambda: len(fleet.names) == 1 and nodes() == 0)


def driver(address: str) -> None:
    """The process of a job."""
    scaling.IDLE_S = 1.0
    ray.init(address, log_to_driver=False, logging_level="error")
    with Fleet.start(Worker, Size(1, 4, 2.0), {}) as fleet:
        asyncio.run(grow_and_shrink(fleet))


def test_a_backlog_brings_nodes_which_leave_when_it_is_done(address: str) -> None:
    in_new_process(driver, address)

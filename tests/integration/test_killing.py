"""While trees grow, everything dies once: a replica, a builder, a host, a node and the driver. No tree is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.config.tasks import tasks
from agentrm.data.trees import TreeStore
from agentrm.models.initial import prepare
from agentrm.run import RunDirectory

TINY = str(Path(__file__).with_name("tiny.yaml"))
_TREES = 24
_DEADLINE_S = 240


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head without room for actors, and two workers with room for all of them together."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture
def config(tmp_path: Path, nodes: Cluster) -> Config:
    config = load(
        TINY,
        [
            f"run={tmp_path / 'run'}",
            f"tasks.trees=[{{environment: maze, kinds: [perfect_small], count: {_TREES}}}]",
            "trees.concurrency=2",
            f"cluster.address={nodes.address}",
        ],
    )
    with RunDirectory.open(config).writing("policy") as policy:
        prepare(config.model, ["The goal is at position 3, 4. move up"] * 9, 0, policy)
    return config


def start(config: Config, log: Path) -> subprocess.Popen[bytes]:
    """The job as a user starts it, with the overrides of `config`."""
    overrides = [
        f"run={config.run}",
        f"tasks.trees=[{{environment: maze, kinds: [perfect_small], count: {_TREES}}}]",
        f"trees.concurrency={config.trees.concurrency}",
        f"cluster.address={config.cluster.address}",
    ]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.trees", "--preset", TINY, *overrides], stdout=output, stderr=output
        )


def actors(nodes: Cluster, name: str) -> list[psutil.Process]:
    """The processes of an actor class on this cluster."""
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in nodes.list_all_nodes()]
    children = [child for raylet in raylets for child in raylet.children(recursive=True)]
    return [child for child in children if child.is_running() and f"ray::{name}" in " ".join(child.cmdline())]


@pytest.mark.timeout(600)
def test_nothing_is_lost(nodes: Cluster, config: Config, tmp_path: Path) -> None:
    store, log = TreeStore(Path(config.run) / "trees"), tmp_path / "log"
    driver = start(config, log)

    def grown(count: int) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while len(store.finished()) < count:
            assert driver.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.05)

    def kill_actor(name: str) -> None:
        (victim, *_) = actors(nodes, name)
        victim.kill()

    def kill_node() -> None:
        victim = random.Random(0).choice(nodes.list_all_nodes()[1:])
        nodes.remove_node(victim, allow_graceful=False)
        nodes.add_node(num_cpus=2)

    kills: list[Callable[[], None]] = [
        lambda: kill_actor("PolicyReplica"),
        lambda: kill_actor("Builder"),
        lambda: kill_actor("EnvironmentActor"),
        kill_node,
    ]
    random.Random(int(os.environ.get("AGENTRM_KILL_SEED", "0"))).shuffle(kills)
    try:
        for number, kill in enumerate(kills, start=1):
            grown(3 * number)
            kill()
        grown(3 * len(kills) + 3)
    finally:
        driver.kill()
        driver.wait()
    before = {path: path.stat().st_mtime_ns for path in Path(store.root).rglob("[!.]*.parquet")}
    assert 0 < len(before) < _TREES
    assert len(list(store.trees())) == len(before), "what is there is whole"
    resumed = start(config, log)
    assert resumed.wait(_DEADLINE_S) == 0, log.read_text()[-4000:]
    expected = {task.id for task in tasks(config.tasks.trees, config.tasks.seed)}
    grown_trees = [tree.id for tree in store.trees()]
    assert sorted(grown_trees) == sorted(expected), "every tree, each of them once"
    assert all(path.stat().st_mtime_ns == written for path, written in before.items()), "none is grown again"

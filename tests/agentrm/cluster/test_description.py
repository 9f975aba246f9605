"""Descriptions of clusters: cluster.yaml reads, this machine too, and what is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrm.cluster.description import GIB, read, this_machine
from agentrm.config.loading import load
from agentrm.core.errors import UserError

CLUSTER = Path(__file__).parents[3] / "cluster.yaml"


def test_the_shipped_cluster() -> None:
    cluster = read(CLUSTER)
    assert [*cluster.workers] == ["environments", "rollouts", "training"]
    assert [cluster.most(name) for name in cluster.available_node_types] == [1, 8, 16, 2]
    rollouts = cluster.workers["rollouts"]
    assert (rollouts.gpus, rollouts.labels.gpu_memory_gib, rollouts.labels.market_type) == (4, 44, "spot")
    assert rollouts.holds({"CPU": 1, "GPU": 0.5}) == 8
    assert rollouts.holds({"CPU": 1, "GPU": 1, "training": 0.001}) == 0
    assert rollouts.memory_gib == pytest.approx(0.9 * 384)


def test_this_machine_has_the_cpus_that_local_ray_is_given() -> None:
    cluster = this_machine(load("quickstart", ["cluster.cpus=3"]))
    assert cluster.head.resources["CPU"] == 3
    assert cluster.head.memory_gib * GIB > 0
    assert not cluster.workers


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("cluster_name", None, "cluster_name"),
        ("head_node_type", "crown", "crown"),
        ("available_node_types.rollouts.labels", None, "available_node_types.rollouts: give labels.gpu-memory-gib"),
        ("available_node_types.rollouts.labels.market-type", "sopt", "market-type"),
        ("available_node_types.training.resources.memory", None, "training: give resources.memory in bytes"),
        ("available_node_types.training.max_workers", "many", "available_node_types.training.max_workers"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, told: str, tmp_path: Path) -> None:
    given = yaml.safe_load(CLUSTER.read_text())
    *folders, key = path.split(".")
    place = given
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[key]
    else:
        place[key] = value
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(UserError, match=told):
        read(tmp_path / "wrong.yaml")


def test_a_file_that_is_not_there_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml"):
        read(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("{")
    with pytest.raises(UserError, match=r"broken\.yaml is no YAML"):
        read(tmp_path / "broken.yaml")

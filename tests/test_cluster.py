"""cluster.yaml: what Ray's cluster launcher accepts, with the resources that jobs ask for."""

from __future__ import annotations

from pathlib import Path

import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from agentrm.cluster.roles import Role

CLUSTER = yaml.safe_load(Path(__file__).parents[1].joinpath("cluster.yaml").read_text())


def test_the_cluster_launcher_accepts_it() -> None:
    validate_config(prepare_config(CLUSTER))


def test_every_role_has_nodes_and_the_head_takes_no_actor() -> None:
    types = CLUSTER["available_node_types"]
    for role in Role:
        (resources,) = (each["resources"] for each in types.values() if role.value in each["resources"])
        assert resources["CPU"] > 0
    assert types[CLUSTER["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}


def test_the_image_has_the_ray_of_this_project() -> None:
    assert CLUSTER["docker"]["image"].startswith(f"rayproject/ray:{ray.__version__}-py311")

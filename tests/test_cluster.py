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
    head = types[CLUSTER["head_node_type"]]["resources"]
    assert head["CPU"] == head["GPU"] == 0


def test_the_labels_agree_with_what_is_ordered() -> None:
    for each in CLUSTER["available_node_types"].values():
        spot = each["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        assert (each.get("labels", {}).get("market-type") == "spot") == spot


def test_the_image_has_the_ray_of_this_project() -> None:
    assert CLUSTER["docker"]["image"].startswith(f"rayproject/ray:{ray.__version__}-py311")

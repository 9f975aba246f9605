"""On which nodes actors run: with `cluster.roles` by the resources that cluster.yaml gives the nodes of each role."""

from __future__ import annotations

from enum import Enum
from typing import Any

from agentrm.config.schema import Config

_SHARE = 0.001
"""Of the one unit that a node has: it says where an actor may run, not how many."""


class Role(str, Enum):
    """What a node is for; its name is the custom resource of such nodes."""

    environments = "environments"
    rollouts = "rollouts"
    training = "training"


def role_resources(config: Config, role: Role) -> dict[str, float]:
    """The custom resources that an actor of this role asks for."""
    return {role.value: _SHARE} if config.cluster.roles else {}


def actor_options(config: Config, role: Role, gpus: float = 0) -> dict[str, Any]:
    """Options of an actor on one CPU core and `gpus` GPUs."""
    return {"num_cpus": 1, "num_gpus": gpus, "resources": role_resources(config, role)}

"""A cluster as cluster.yaml describes it, or this machine: the one source of node types, for `ray up`, Kubernetes and
the dry run.

Beside what Ray needs, each node type gives `resources.memory` (bytes), and as Ray's `labels` the memory of one GPU
(`gpu-memory-gib`) and whether its nodes may vanish (`market-type: spot`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import psutil
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from agentrm.config.schema import Config
from agentrm.core.errors import UserError

GIB = 2**30


class Labels(BaseModel):
    """Ray's labels of a node type, as far as they are read here."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"), validate_by_name=True)

    gpu_memory_gib: float = 0.0
    market_type: Literal["on-demand", "spot"] = "on-demand"


class NodeType(BaseModel):
    """`resources` of each node by Ray's names, memory in bytes; `max_workers` None: as many as the cluster has."""

    resources: dict[str, float]
    min_workers: int = 0
    max_workers: int | None = None
    labels: Labels = Labels()

    @model_validator(mode="after")
    def _complete(self) -> NodeType:
        for name in ("CPU", "memory"):
            if name not in self.resources:
                raise ValueError(f"give resources.{name}" + (" in bytes" if name == "memory" else ""))
        if self.gpus and not self.labels.gpu_memory_gib:
            raise ValueError("give labels.gpu-memory-gib, the memory of one GPU")
        return self

    @property
    def gpus(self) -> int:
        """GPUs of one node."""
        return int(self.resources.get("GPU", 0))

    @property
    def memory_gib(self) -> float:
        """Memory of one node."""
        return self.resources["memory"] / GIB

    def holds(self, asked: dict[str, float]) -> int:
        """How many actors that ask for these resources an empty node takes."""
        return int(min(self.resources.get(name, 0) / amount for name, amount in asked.items() if amount))


class Provider(BaseModel):
    """Whose machines they are, as in Ray's cluster launcher: aws, gcp, azure, local, ..."""

    type: str


class Docker(BaseModel):
    """The containers' image and options of `docker run`."""

    image: str
    run_options: list[str] = []


class Description(BaseModel):
    """What cluster.yaml says, by its own names."""

    cluster_name: str
    max_workers: int
    idle_timeout_minutes: float = 5.0
    provider: Provider
    docker: Docker | None = None
    file_mounts: dict[str, str] = {}
    rsync_exclude: list[str] = []
    setup_commands: list[str] = []
    head_node_type: str
    available_node_types: dict[str, NodeType]

    @model_validator(mode="after")
    def _has_its_head(self) -> Description:
        if self.head_node_type not in self.available_node_types:
            raise ValueError(f"head_node_type is {self.head_node_type}, which available_node_types lacks")
        return self

    @property
    def head(self) -> NodeType:
        """The type of the one head node."""
        return self.available_node_types[self.head_node_type]

    @property
    def workers(self) -> dict[str, NodeType]:
        """The types of all other nodes."""
        return {name: node_type for name, node_type in self.available_node_types.items() if name != self.head_node_type}

    def most(self, name: str) -> int:
        """How many nodes of a type there can be."""
        if name == self.head_node_type:
            return 1
        limit = self.available_node_types[name].max_workers
        return self.max_workers if limit is None else min(limit, self.max_workers)


def read(path: Path) -> Description:
    """The cluster in a file. Raises UserError that names the key that is missing or wrong."""
    try:
        return Description.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path} describes no cluster: {key}: {first['msg'].removeprefix('Value error, ')}") from error


def this_machine(config: Config) -> Description:
    """The local Ray that a command starts without an address: this machine with `cluster.cpus` logical CPUs."""
    import torch

    gpus = torch.cuda.device_count()
    total = min((torch.cuda.get_device_properties(gpu).total_memory for gpu in range(gpus)), default=0)
    here = NodeType(
        resources={"CPU": config.cluster.cpus, "GPU": gpus, "memory": psutil.virtual_memory().total},
        labels=Labels(gpu_memory_gib=total / GIB),
    )
    name = os.uname().nodename
    return Description(
        cluster_name=name,
        max_workers=0,
        provider=Provider(type="local"),
        head_node_type=name,
        available_node_types={name: here},
    )

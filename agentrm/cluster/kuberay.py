"""The cluster of a description as KubeRay's objects: a RayCluster, a RayJob that runs a job on such a cluster, and a
RayService that scores. Fields as in KubeRay 1.6 (ray.io/v1).

All pods run one image, mount one claim, and get the keys of one Secret as environment variables, with those that name
official data here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

import yaml

from agentrm.cluster.description import Description, NodeType
from agentrm.cluster.roles import Role
from agentrm.config.schema import Config
from agentrm.core.errors import UserError
from agentrm.environments import data_variables
from agentrm.storage import is_uri

Manifest = dict[str, Any]

SECRET = "agentrm-keys"
API_KEY = "AGENTRM_API_KEY"
"""The Secret's key that protects the scoring service."""

# How each provider's Kubernetes marks spot nodes, by label and, where it has one, by a taint of the same name.
_SPOT = {
    "aws": {"eks.amazonaws.com/capacityType": "SPOT"},
    "gcp": {"cloud.google.com/gke-spot": "true"},
    "azure": {"kubernetes.azure.com/scalesetpriority": "spot"},
}
_GPU = "nvidia.com/gpu"

# Kubernetes' own pods take part of a core of each node.
_SYSTEM_CPUS = 1
# Ray's services and the driver, on a head that gives no CPU to actors.
_HEAD_CPUS = 4

WITH_SOURCES = ("import", "score")
"""Jobs that are given episodes, and so what `agentrm` of the same name is given."""

REPRODUCE = "reproduce"
"""The job that makes one of the paper's tables; who submits it agrees to its cost."""

_RETRIES = 3
_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000}


@dataclass(frozen=True, slots=True)
class Target:
    """Where the objects go: the pods' `image`, which holds AgentRM, a `namespace`, and the shared volume's `claim`."""

    image: str
    namespace: str
    claim: str


def dockerfile(cluster: Description) -> str:
    """The image for `Target`, by the description's own image, files and commands; its context is the current folder."""
    assert cluster.docker is not None
    copied = [f"COPY --chown=ray {source} {target}" for target, source in cluster.file_mounts.items()]
    run = [f"RUN {command}" for command in cluster.setup_commands]
    return "\n".join([f"FROM {cluster.docker.image}", *copied, *run]) + "\n"


def ray_cluster(cluster: Description, target: Target) -> Manifest:
    """For `agentrm submit`, and for whatever else runs on Ray."""
    return _object("RayCluster", cluster.cluster_name, target, _spec(cluster, target))


def entrypoint(job: str, preset: str, arguments: Sequence[str]) -> str:
    """The command that runs a job on a cluster, where no more than this repository need be."""
    module = ["jobs.cli", job] if job in (*WITH_SOURCES, REPRODUCE) else [f"jobs.{job}"]
    agreed = ["--yes"] if job == REPRODUCE else []
    return shlex.join(["python", "-m", *module, "--preset", preset, *agreed, *arguments])


def ray_job(
    cluster: Description, target: Target, config: Config, job: str, preset: str, arguments: Sequence[str]
) -> Manifest:
    """A job on a cluster of its own, which goes when it has ended. Raises UserError when the run would
    not lie on the shared volume or at a URI.
    """
    _check_run(cluster, config)
    spec = {
        "entrypoint": entrypoint(job, preset, arguments),
        "shutdownAfterJobFinishes": True,
        # Each retry has a new cluster and goes on where the run directory ends.
        "backoffLimit": _RETRIES,
        "rayClusterSpec": _spec(cluster, target),
    }
    return _object("RayJob", f"{cluster.cluster_name}-{job}", target, spec)


def ray_service(
    cluster: Description, target: Target, config: Config, preset: str, overrides: Sequence[str]
) -> Manifest:
    """The scoring service, on nodes for rollouts alone. Raises UserError as `ray_job` does."""
    _check_run(cluster, config)
    # The pods listen for the whole Kubernetes cluster, so the service insists on a key.
    keyed = ["serve.host=0.0.0.0", f"serve.api_key=${{oc.env:{API_KEY}}}"]
    given = dict(override.split("=", 1) for override in [*overrides, *keyed])
    applications = [
        {
            "name": "agentrm",
            "route_prefix": "/",
            "import_path": "jobs.serve:application",
            "args": {"preset": preset, **given},
        }
    ]
    serve = {"http_options": {"host": "0.0.0.0", "port": _PORTS["serve"]}, "applications": applications}
    spec = {
        "serveConfigV2": yaml.safe_dump(serve, sort_keys=False),
        "rayClusterConfig": _spec(cluster, target, only=Role.rollouts.value),
    }
    return _object("RayService", f"{cluster.cluster_name}-serve", target, spec)


def _object(kind: str, name: str, target: Target, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": target.namespace}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _spec(cluster: Description, target: Target, only: str = "") -> Manifest:
    """Of the cluster, or of its head and the nodes that have the resource `only`."""
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": round(cluster.idle_timeout_minutes * 60)},
        "headGroupSpec": {
            "rayStartParams": {"dashboard-host": "0.0.0.0", **_start(cluster.head)},
            "template": _pod(cluster, cluster.head, target, _PORTS),
        },
        "workerGroupSpecs": [
            {
                "groupName": name,
                "replicas": node_type.min_workers,
                "minReplicas": node_type.min_workers,
                "maxReplicas": cluster.most(name),
                "rayStartParams": _start(node_type),
                "template": _pod(cluster, node_type, target, {}),
            }
            for name, node_type in cluster.workers.items()
            if not only or only in node_type.resources
        ],
    }


def _start(node: NodeType) -> dict[str, str]:
    """What Ray counts on a node, whatever its pod has."""
    counted = {name: int(amount) for name, amount in node.resources.items()}
    flags = {"num-cpus": str(counted.pop("CPU")), "num-gpus": str(counted.pop("GPU", 0))}
    # The pod's limit says this.
    del counted["memory"]
    # KubeRay puts the text on a shell's command line as it is, so it is quoted for the shell.
    return flags | ({"resources": json.dumps(json.dumps(counted))} if counted else {})


def _pod(cluster: Description, node: NodeType, target: Target, ports: Mapping[str, int]) -> Manifest:
    cpus = int(node.resources["CPU"])
    gpus = {_GPU: node.gpus} if node.gpus else {}
    memory = {"memory": str(int(node.resources["memory"]))}
    taints = [_GPU] if node.gpus else []
    spec: Manifest = {"restartPolicy": "Never"}
    if node.labels.market_type == "spot":
        if cluster.provider.type not in _SPOT:
            raise UserError(f"provider.type is {cluster.provider.type}: spot nodes are known of {', '.join(_SPOT)}")
        spec["nodeSelector"] = _SPOT[cluster.provider.type]
        taints += spec["nodeSelector"]
    if taints:
        spec["tolerations"] = [{"key": key, "operator": "Exists"} for key in taints]
    data = data_variables()
    spec["containers"] = [
        {
            "name": "ray",
            "image": target.image,
            **({"ports": [{"name": name, "containerPort": port} for name, port in ports.items()]} if ports else {}),
            "envFrom": [{"secretRef": {"name": SECRET, "optional": True}}],
            **({"env": [{"name": name, "value": value} for name, value in data.items()]} if data else {}),
            "resources": {
                "requests": {"cpu": str(max(cpus - _SYSTEM_CPUS, 1) if cpus else _HEAD_CPUS), **memory, **gpus},
                "limits": {**memory, **gpus},
            },
            "volumeMounts": [{"name": "runs", "mountPath": _mount(cluster)}],
        }
    ]
    spec["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": target.claim}}]
    return {"spec": spec}


def _mount(cluster: Description) -> str:
    """Where containers see the shared volume: the target of docker's first --volume option."""
    for option in cluster.docker.run_options if cluster.docker else ():
        if option.startswith("--volume="):
            return option.removeprefix("--volume=").split(":")[1]
    raise UserError("docker.run_options has no --volume=HOST:CONTAINER: where shall runs lie?")


def _check_run(cluster: Description, config: Config) -> None:
    mount = _mount(cluster)
    if not (is_uri(config.run) or PurePosixPath(config.run).is_relative_to(mount)):
        raise UserError(f"run={config.run} would be lost with its pod: set run={mount}/runs/NAME or a URI")

"""Objects for KubeRay: pods by Kubernetes' own schema, the cluster by Ray's own reader, the service by Ray Serve's.

KubeRay publishes its schema in no package, so its fields are written down here as far as they are used: from KubeRay
1.6's Go types, ray-operator/apis/ray/v1/{raycluster,rayjob,rayservice}_types.go.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import ray
import yaml
from kubernetes_validate import ValidationError, validate
from pydantic import BaseModel, ConfigDict
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.serve.schema import ServeDeploySchema

from agentrm.cluster import kuberay
from agentrm.cluster.description import Description, read
from agentrm.config.loading import load
from agentrm.core.errors import UserError

CLUSTER = Path(__file__).parents[3] / "cluster.yaml"
TARGET = kuberay.Target("registry/agentrm:1", "research", "runs")
RUN = "run=/shared/runs/first"
KUBERNETES = "1.33"


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AuthOptions(_Object):
    mode: Literal["disabled", "token"]


class AutoscalerOptions(_Object):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int  # noqa: N815


class HeadGroupSpec(_Object):
    rayStartParams: dict[str, str]  # noqa: N815
    template: dict[str, Any]


class WorkerGroupSpec(HeadGroupSpec):
    groupName: str  # noqa: N815
    replicas: int
    minReplicas: int  # noqa: N815
    maxReplicas: int  # noqa: N815


class RayClusterSpec(_Object):
    rayVersion: str  # noqa: N815
    authOptions: AuthOptions  # noqa: N815
    enableInTreeAutoscaling: bool  # noqa: N815
    autoscalerOptions: AutoscalerOptions  # noqa: N815
    headGroupSpec: HeadGroupSpec  # noqa: N815
    workerGroupSpecs: list[WorkerGroupSpec]  # noqa: N815


class RayJobSpec(_Object):
    entrypoint: str
    shutdownAfterJobFinishes: bool  # noqa: N815
    backoffLimit: int  # noqa: N815
    rayClusterSpec: RayClusterSpec  # noqa: N815


class RayServiceSpec(_Object):
    serveConfigV2: str  # noqa: N815
    rayClusterConfig: RayClusterSpec  # noqa: N815


@pytest.fixture
def cluster() -> Description:
    return read(CLUSTER)


def manifests(cluster: Description, *overrides: str) -> dict[str, dict[str, Any]]:
    """By kind."""
    config, given = load("llama3-8b-cluster", [RUN, *overrides]), [RUN, *overrides]
    found = [
        kuberay.ray_cluster(cluster, TARGET),
        kuberay.ray_job(cluster, TARGET, config, "trees", "llama3-8b-cluster", given),
        kuberay.ray_service(cluster, TARGET, config, "llama3-8b-cluster", given),
    ]
    return {each["kind"]: each for each in found}


def specs(cluster: Description) -> dict[str, RayClusterSpec]:
    """The clusters of all objects, read strictly."""
    found = manifests(cluster)
    for each in found.values():
        assert each["apiVersion"] == "ray.io/v1" and each["metadata"]["namespace"] == "research"
    return {
        "RayCluster": RayClusterSpec.model_validate(found["RayCluster"]["spec"]),
        "RayJob": RayJobSpec.model_validate(found["RayJob"]["spec"]).rayClusterSpec,
        "RayService": RayServiceSpec.model_validate(found["RayService"]["spec"]).rayClusterConfig,
    }


def pod(template: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **template}


def test_kubernetes_takes_every_pod(cluster: Description) -> None:
    for spec in specs(cluster).values():
        assert spec.rayVersion == ray.__version__
        for group in [spec.headGroupSpec, *spec.workerGroupSpecs]:
            validate(pod(group.template), KUBERNETES, strict=True)
            (container,) = group.template["spec"]["containers"]
            assert container["image"] == TARGET.image
            assert container["volumeMounts"] == [{"name": "runs", "mountPath": "/shared"}]
            (volume,) = group.template["spec"]["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == "runs"
    with pytest.raises(ValidationError):
        validate(pod({"spec": {"containers": [{"name": "ray", "imagine": "x"}]}}), KUBERNETES, strict=True)


def test_rays_autoscaler_reads_the_same_cluster(cluster: Description) -> None:
    said = yaml.safe_load(CLUSTER.read_text())
    found = _derive_autoscaling_config_from_ray_cr(manifests(cluster)["RayCluster"])
    assert found["idle_timeout_minutes"] == said["idle_timeout_minutes"]
    assert found["max_workers"] == said["max_workers"]
    nodes = found["available_node_types"]
    for name, each in said["available_node_types"].items():
        node = nodes.pop("headgroup" if name == said["head_node_type"] else name)
        assert {key: count for key, count in node["resources"].items() if count} == {
            key: count for key, count in each["resources"].items() if count
        }
        if name != said["head_node_type"]:
            assert (node["min_workers"], node["max_workers"]) == (each["min_workers"], each["max_workers"])
    assert not nodes


def test_only_rollouts_are_on_spot_nodes_and_only_gpu_pods_take_gpus(cluster: Description) -> None:
    pods = {each.groupName: each.template["spec"] for each in specs(cluster)["RayCluster"].workerGroupSpecs}
    spot = {"eks.amazonaws.com/capacityType": "SPOT"}
    assert {name: each.get("nodeSelector") for name, each in pods.items()} == {
        "environments": None,
        "rollouts": spot,
        "training": None,
    }
    assert {each["key"] for each in pods["rollouts"]["tolerations"]} == {*spot, "nvidia.com/gpu"}
    gpus = {name: each["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for name, each in pods.items()}
    assert gpus == {"environments": None, "rollouts": 4, "training": 8}
    assert pods["rollouts"]["containers"][0]["resources"]["requests"]["cpu"] == "47"


def test_a_job_is_the_commands_own(cluster: Description) -> None:
    given = ["trees.iterations=8", "evaluate.methods=[greedy, beam]"]
    spec = RayJobSpec.model_validate(manifests(cluster, *given)["RayJob"]["spec"])
    command = ["python", "-m", "jobs.trees", "--preset", "llama3-8b-cluster"]
    assert shlex.split(spec.entrypoint) == [*command, RUN, *given]


def test_a_service_has_a_key_from_the_secret_and_the_nodes_that_it_needs(cluster: Description) -> None:
    spec = RayServiceSpec.model_validate(manifests(cluster, "serve.api_key=mine")["RayService"]["spec"])
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(spec.serveConfigV2)).applications
    assert application.import_path == "jobs.serve:application"
    assert application.args == {
        "preset": "llama3-8b-cluster",
        "run": "/shared/runs/first",
        "serve.host": "0.0.0.0",
        "serve.api_key": "${oc.env:AGENTRM_API_KEY}",
    }
    assert [each.groupName for each in spec.rayClusterConfig.workerGroupSpecs] == ["rollouts"]
    (container,) = spec.rayClusterConfig.headGroupSpec.template["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "agentrm-keys", "optional": True}}]


def test_official_data_is_looked_for_where_it_is_here(cluster: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JERICHO_ROMS", "/shared/roms")
    spec = kuberay.ray_cluster(cluster, TARGET)["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        validate(pod(group["template"]), KUBERNETES, strict=True)
        (container,) = group["template"]["spec"]["containers"]
        assert container["env"] == [{"name": "JERICHO_ROMS", "value": "/shared/roms"}]


def test_what_cannot_run_there_is_refused(cluster: Description) -> None:
    with pytest.raises(UserError, match="set run=/shared/runs/NAME"):
        manifests(cluster, "run=runs/first")
    assert "run=s3://bucket/first" in manifests(cluster, "run=s3://bucket/first")["RayJob"]["spec"]["entrypoint"]
    elsewhere = cluster.model_copy(update={"provider": cluster.provider.model_copy(update={"type": "vsphere"})})
    with pytest.raises(UserError, match=r"provider\.type is vsphere"):
        manifests(elsewhere)
    with pytest.raises(UserError, match=r"docker\.run_options"):
        manifests(cluster.model_copy(update={"docker": None}))


def test_the_command_prints_all_or_writes_files(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("agentrm"), "cluster", "render", "--image", TARGET.image, RUN]
    command += ["--preset", "llama3-8b-cluster", "--file", CLUSTER]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert printed.returncode == 0, printed.stderr
    kinds = [each["kind"] for each in yaml.safe_load_all(printed.stdout)]
    assert kinds == ["RayCluster", "RayJob", "RayService"]
    written = subprocess.run([*command, "--output", tmp_path], capture_output=True, text=True, timeout=120)
    assert written.returncode == 0 and written.stdout == ""
    assert yaml.safe_load((tmp_path / "rayjob.yaml").read_text())["spec"]["entrypoint"].endswith(RUN)
    steps = (tmp_path / "Dockerfile").read_text().splitlines()
    assert steps[0] == f"FROM rayproject/ray:{ray.__version__}-py311-gpu"
    assert steps[1] == "COPY --chown=ray . /home/ray/agentrm"
    assert [each for each in steps[2:] if not each.startswith("RUN ")] == []
    assert ".venv" in (tmp_path / "Dockerfile.dockerignore").read_text().splitlines()
    experiment = subprocess.run(
        [*command[:-5], "reward-kinds", *command[-5:], "--job", "experiment"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert experiment.returncode == 0, experiment.stderr
    job, service = list(yaml.safe_load_all(experiment.stdout))[1:]
    assert job["spec"]["entrypoint"].endswith(f" reward-kinds {RUN}")
    assert "reward-kinds" not in service["spec"]["serveConfigV2"]
    refused = subprocess.run([*command, "--job", "paint"], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "no job 'paint'" in refused.stderr and len(refused.stderr.splitlines()) == 1

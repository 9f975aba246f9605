"""The dry run: presets fit the clusters that they are for, and what does not fit is refused with the numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentrm.cluster.description import GIB, Description, read
from agentrm.cluster.fit import Row, resolve
from agentrm.config.loading import load
from agentrm.core.errors import UserError

CLUSTER = Path(__file__).parents[3] / "cluster.yaml"
BIG = "model.source=meta-llama/Meta-Llama-3-70B-Instruct"


def machine(gpus: int, gpu_gib: float, cpus: int = 64, memory_gib: int = 1000) -> Description:
    """One node."""
    resources = {"CPU": cpus, "GPU": gpus, "memory": memory_gib * GIB}
    node = {"resources": resources, "labels": {"gpu-memory-gib": gpu_gib}}
    return Description.model_validate(
        {
            "cluster_name": "one",
            "max_workers": 0,
            "provider": {"type": "local"},
            "head_node_type": "node",
            "available_node_types": {"node": node},
        }
    )


def check(cluster: Description, preset: str, *overrides: str) -> list[Row]:
    return resolve(load(preset, overrides), cluster)


def fault(cluster: Description, preset: str, *overrides: str) -> str:
    """The first."""
    return next(row.fault for row in check(cluster, preset, *overrides) if row.fault)


@pytest.mark.parametrize(
    ("preset", "cluster"),
    [
        ("quickstart", machine(0, 0, cpus=8, memory_gib=8)),
        ("smollm2", machine(0, 0, cpus=8, memory_gib=16)),
        ("smollm2-gpu", machine(1, 23, cpus=16, memory_gib=30)),
        ("llama3-8b", machine(8, 79)),
        ("qwen3-8b", machine(8, 79)),
        ("llama3-8b-lora", machine(1, 44, cpus=12, memory_gib=60)),
        ("llama3-8b-cluster", read(CLUSTER)),
        ("weak-to-strong-32b", machine(8, 79)),
        ("weak-to-strong-70b", machine(8, 79)),
    ],
)
def test_every_preset_fits_where_it_belongs(preset: str, cluster: Description) -> None:
    rows = check(cluster, preset)
    assert [row.fault for row in rows if row.fault] == []
    stages = list(dict.fromkeys(row.stage for row in rows))
    strong = [f"{stage} of evaluate.strong" for stage in ("clone", "evaluate")] if preset.startswith("weak") else []
    assert stages == ["demonstrations", "clone", "trees", "train", "evaluate", "serve", *strong]


def test_the_stronger_policy_is_reckoned_with_the_weaker_ones_reward_model() -> None:
    rows = {(row.stage, row.what): row for row in check(machine(8, 79), "weak-to-strong-70b")}
    stage = "evaluate of evaluate.strong"
    # 70.55e9 weights in bfloat16 on four GPUs, and 7.5e9 on one.
    assert rows[stage, "policy_engine.replicas=1"].needs_gib == pytest.approx(70.55e9 * 2 / 4 / GIB, rel=0.15)
    weak, strong = (rows[each, "reward_engine.replicas=2"].needs_gib for each in ("evaluate", stage))
    assert weak == strong
    told = fault(machine(8, 79), "weak-to-strong-70b", f"evaluate.strong=[{BIG},clone.epochs=0]")
    assert told.startswith(f"{stage}: policy_engine.replicas=6 needs ")


def test_kept_adapters_share_an_engine_and_workers_hold_parts() -> None:
    cluster, overrides = machine(8, 79), ["train.ensemble.members=5", "train.lora.rank=16"]
    assert "train.ensemble.members" in fault(cluster, "llama3-8b", *overrides)
    assert not any(row.fault for row in check(cluster, "llama3-8b", *overrides, "train.lora.keep=true"))
    (row,) = (row for row in check(cluster, "llama3-8b") if row.what == "8 of them" and row.stage == "clone")
    assert row.needs_gib == pytest.approx(4 * (8_030_261_248 + 8 * 128256 * 4096) / GIB)


@pytest.mark.parametrize("preset", ["llama3-8b", "qwen3-8b"])
def test_all_eight_gpus_are_used_in_every_stage(preset: str) -> None:
    used: dict[str, int] = {}
    for row in check(machine(8, 79), preset):
        if row.memory == "each GPU":
            used[row.stage] = used.get(row.stage, 0) + int(row.where.split()[0])
    assert used == {"clone": 8, "trees": 8, "train": 8, "evaluate": 8, "serve": 2}


def test_roles_send_actors_to_their_nodes_and_fleets_grow_there() -> None:
    places = {(row.stage, row.what): row.where for row in check(read(CLUSTER), "llama3-8b-cluster")}
    assert places["clone", "clone.workers=16"] == "16 on training"
    assert places["trees", "trees.builders=4 to 16"] == "16 on environments"
    # 24 replicas on two GPUs and 16 on one fill the 64 GPUs.
    assert places["evaluate", "policy_engine.replicas=2 to 24"] == "24 on rollouts"
    assert places["evaluate", "reward_engine.replicas=1 to 16"] == "16 on rollouts"


def test_a_model_that_is_too_big_is_refused_with_the_numbers() -> None:
    # 70.55e9 parameters with gradients and optimizer state, 18 bytes each over eight GPUs, and more beside them.
    told = fault(machine(8, 79, memory_gib=4000), "llama3-8b", BIG)
    assert told.startswith("clone: clone.workers=8 needs ") and "has 79.0 on node" in told
    assert float(told.split(" needs ")[1].split()[0]) > 70.55e9 * 18 / 8 / GIB
    rows = check(machine(8, 79, memory_gib=200), "llama3-8b", BIG, "clone.zero_stage=2")
    (row,) = (row for row in rows if row.what == "8 of them" and row.stage == "clone")
    assert row.needs_gib == pytest.approx(8 * 4 * 70_553_706_496 / GIB)
    assert "machines with more memory" in row.fault


@pytest.mark.parametrize(
    ("cluster", "preset", "overrides", "told"),
    [
        (machine(0, 0), "llama3-8b", [], "clone: no node type has what each of clone.workers asks for (CPU 1, GPU 1)"),
        (machine(4, 79), "llama3-8b", [], "clone: only 4 of clone.workers=8 find room"),
        (machine(8, 79, cpus=20), "llama3-8b", [], "trees: only 14 of hosts.workers=16 find room"),
        (machine(8, 39), "llama3-8b", [], "clone: clone.workers=8 needs 52.5 GiB of each GPU and has 39.0 on node"),
        (machine(1, 44), "llama3-8b-lora", ["policy_engine.gpu_memory_utilization=0.6"], "policy_engine.gpu_memory"),
        (machine(1, 23), "llama3-8b-lora", ["clone.tokens_per_batch=512", "model.context=512"], "policy_engine"),
        (machine(8, 79), "llama3-8b", ["train.ensemble.members=5"], "or lower model.context or train.ensemble.members"),
        (machine(8, 79), "llama3-8b", ["train.kind=implicit", "train.ensemble.members=3"], "evaluate: reward_engine"),
        (read(CLUSTER), "llama3-8b-cluster", ["clone.workers=17"], "only 16 of clone.workers=17"),
        (machine(8, 79), "llama3-8b", ["cluster.roles=true"], "(CPU 1, environments)"),
    ],
)
def test_what_does_not_fit_names_the_key(cluster: Description, preset: str, overrides: list[str], told: str) -> None:
    assert told in fault(cluster, preset, *overrides)


def test_without_roles_an_actor_may_come_to_the_node_with_the_least_memory() -> None:
    rows = check(read(CLUSTER), "llama3-8b-cluster", "cluster.roles=false")
    (row,) = (row for row in rows if row.stage == "serve")
    assert row.has_gib == pytest.approx(39 * 0.85)


def test_the_service_is_reckoned_by_the_model_that_it_serves(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        check(machine(1, 20), "smollm2", "reward_engine.gpus=1", f"serve.model={tmp_path}")


def test_a_remote_policy_has_neither_fit_nor_engine() -> None:
    overrides = ["model.source=http://localhost:1/v1", "model.name=x", "train.base=smollm2", "reward_engine.gpus=1"]
    rows = check(machine(1, 20), "smollm2", *overrides)
    assert {row.stage for row in rows} == {"trees", "train", "evaluate", "serve"}
    assert not any("policy_engine" in row.what for row in rows)


def test_the_command_prints_the_table_and_ends_with_one_line() -> None:
    command = [Path(sys.executable).with_name("agentrm"), "cluster", "check", "--preset", "llama3-8b-cluster"]
    command += ["--file", CLUSTER, BIG]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 2
    assert len(found.stderr.splitlines()) == 1 and "clone needs 262.8 GiB of a machine's memory" in found.stderr
    assert "policy_engine.replicas=2 to 24" in found.stdout

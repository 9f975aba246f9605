"""What each stage of a configuration asks of a cluster: groups of equal actors, with their resources and memory.

Groups of one stage run at a time; the stages run one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentrm.cluster import memory
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.schema import Config, Engine, RewardKind, Training
from agentrm.models.openai_policy import is_endpoint


@dataclass(frozen=True, slots=True)
class Group:
    """`least` to `most` actors of one `stage` that ask Ray for the resources in `each`, set by the keys under `key`
    and numbered by `number`.

    Each needs `gpu_gib` of each of its GPUs, where it may take the `share`, and `host_gib` of its machine's memory;
    `remedy` says how to need less. A `driver` runs on the head and asks Ray for nothing.
    """

    stage: str
    key: str
    number: str
    least: int
    most: int
    each: dict[str, float]
    gpu_gib: float = 0.0
    share: float = 1.0
    host_gib: float = 0.0
    remedy: str = ""
    driver: bool = False


def groups(config: Config) -> list[Group]:
    """The groups of all stages, in the order of the pipeline and with `serve` at the end."""
    return [*_clone(config), *_trees(config), *_train(config), *_evaluate(config), _reward(config, "serve")]


def _clone(config: Config) -> Iterator[Group]:
    if is_endpoint(config.model.source):
        return
    yield _hosts(config, "demonstrations")
    yield from _fit(config, "clone", config.clone, config.model.source, scalar_head=False)


def _trees(config: Config) -> Iterator[Group]:
    trees = config.trees
    yield from _policy(config, "trees")
    yield _hosts(config, "trees")
    options = _asked(config, Role.environments)
    yield Group("trees", "trees", "trees.builders", trees.builders, trees.max_builders or trees.builders, options)
    if trees.bootstrap:
        yield _reward(config, "trees")


def _train(config: Config) -> Iterator[Group]:
    yield from _fit(config, "train", config.train, _reward_source(config), _explicit(config))


def _evaluate(config: Config) -> Iterator[Group]:
    yield from _policy(config, "evaluate")
    yield _hosts(config, "evaluate")
    yield _reward(config, "evaluate")


def _fit(config: Config, stage: str, training: Training, source: str, scalar_head: bool) -> Iterator[Group]:
    """The workers of a fit, and the driver, which prepares the model that they start from."""
    gpu = host = 0.0
    if training.gpus_per_worker:
        shape = memory.shape(config.model, source, scalar_head, training.lora)
        gpu, host = memory.of_training(shape, training, config.model.context), memory.of_loading(shape)
    yield Group(stage, "driver", "", 1, 1, {}, host_gib=host, driver=True)
    yield Group(
        stage,
        stage,
        f"{stage}.workers",
        training.workers,
        training.workers,
        _asked(config, Role.training, training.gpus_per_worker),
        gpu,
        min(training.gpus_per_worker, 1.0),
        host,
        f"lower {stage}.tokens_per_batch or model.context, raise {stage}.workers with {stage}.zero_stage=3, "
        f"or set {stage}.lora.rank",
    )


def _policy(config: Config, stage: str) -> Iterator[Group]:
    if not is_endpoint(config.model.source):
        yield _engines(config, stage, "policy_engine", config.policy_engine, config.model.source, scalar_head=False)


def _reward(config: Config, stage: str) -> Group:
    source, explicit = _reward_source(config), _explicit(config)
    return _engines(config, stage, "reward_engine", config.reward_engine, source, explicit, 1 if explicit else 2)


def _engines(
    config: Config, stage: str, key: str, engine: Engine, source: str, scalar_head: bool, models: int = 1
) -> Group:
    """Replicas, each of which holds so many models, with an engine and a share of its GPUs for each."""
    gpu = 0.0
    if engine.gpus:
        shape = memory.shape(config.model, source, scalar_head)
        gpu = models * memory.of_engine(shape, engine, config.model.context)
    return Group(
        stage,
        key,
        f"{key}.replicas",
        engine.replicas,
        max(engine.replicas, engine.max_replicas or 0),
        _asked(config, Role.rollouts, engine.gpus),
        gpu,
        models * engine.gpu_memory_utilization,
        remedy=f"raise {key}.tensor_parallel and {key}.gpus, or lower model.context",
    )


def _hosts(config: Config, stage: str) -> Group:
    hosts = config.hosts
    options = _asked(config, Role.environments)
    return Group(stage, "hosts", "hosts.workers", hosts.workers, hosts.max_workers or hosts.workers, options)


def _asked(config: Config, role: Role, gpus: float = 0) -> dict[str, float]:
    options = actor_options(config, role, gpus)
    return {"CPU": options["num_cpus"], "GPU": options["num_gpus"], **options["resources"]}


def _explicit(config: Config) -> bool:
    return config.train.kind is RewardKind.explicit


def _reward_source(config: Config) -> str:
    return config.model.source if config.train.base == "policy" else config.train.base

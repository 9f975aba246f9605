"""What each stage of a configuration asks of a cluster: groups of equal actors, with their resources and memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from agentrm.cluster.memory import of_engine, of_loading, of_preparing, of_training, shape
from agentrm.cluster.roles import Role, actor_options
from agentrm.config.loading import changed
from agentrm.config.schema import Config, Method, RewardKind, is_endpoint


@dataclass(frozen=True, slots=True)
class Group:
    """`least` to `most` actors, by the key `number`, that run at a time with the others of their `stage` and ask Ray
    for the resources in `each`; without any it is the driver, on the head.

    Each needs `gpu_gib` of each of its GPUs, of which it may take the `share`, and `host_gib` of its machine's memory;
    `remedy` says how to need less of a GPU.
    """

    stage: str
    number: str
    least: int
    most: int
    each: dict[str, float]
    gpu_gib: float = 0.0
    share: float = 1.0
    host_gib: float = 0.0
    remedy: str = ""

    @property
    def key(self) -> str:
        """Where its settings are."""
        return self.number.partition(".")[0]


def groups(config: Config) -> list[Group]:
    """The groups of all stages, in the order of the pipeline and with `serve` at the end; then those of the stages that
    the stronger policy of `evaluate.strong` runs, with this one's reward model.
    """
    demands = _own(config)
    if not config.evaluate.strong:
        return demands
    strong = changed(config, [*config.evaluate.strong, f"train.base={_learned(config)}"])
    return demands + [
        replace(group, stage=f"{group.stage} of evaluate.strong")
        for group in _own(strong)
        if group.stage in ("demonstrations", "clone", "evaluate")
    ]


def _learned(config: Config) -> str:
    """What the reward model is made of."""
    return config.train.base if config.train.base not in ("policy", "model") else config.model.source


def _own(config: Config) -> list[Group]:
    remote, trees = is_endpoint(config.model.source), config.trees
    policy = [] if remote else [config.model.source]
    demands = [] if remote or not config.clone.epochs else [_hosts(config, "demonstrations")]
    demands += [] if remote else _fit(config, "clone", config.model.source)
    demands += [_engines(config, "trees", "policy_engine", source) for source in policy]
    demands += [_hosts(config, "trees"), _fleet(config, "trees", "trees.builders", Role.environments)]
    demands += [_engines(config, "trees", "reward_engine", trees.bootstrap)] if trees.bootstrap else []
    learned = _learned(config)
    demands += _fit(config, "train", learned)
    demands += [_engines(config, "evaluate", "policy_engine", source) for source in policy]
    demands += [_hosts(config, "evaluate"), _fleet(config, "evaluate", "evaluate.searchers", Role.environments)]
    demands += [_engines(config, "evaluate", "reward_engine", learned)] if config.evaluate.scored else []
    judge = config.evaluate.judge
    judged = judge.is_local and Method.judge in config.evaluate.methods
    demands += [_engines(config, "evaluate", "judge_engine", judge.source)] if judged else []
    return [*demands, _engines(config, "serve", "reward_engine", config.serve.model or learned)]


def _fit(config: Config, stage: str, source: str) -> Iterator[Group]:
    """The driver, which prepares the model that a fit starts from, and the workers."""
    training, gpu, host, prepared = getattr(config, stage), 0.0, 0.0, 0.0
    if training.gpus_per_worker:
        scalar_head = stage == "train" and config.train.kind is RewardKind.explicit
        model = shape(config.model, source, scalar_head, training.lora)
        gpu, host = of_training(model, training, config.model.context), of_loading(model, training)
        prepared = of_preparing(model)
    yield Group(stage, "driver", 1, 1, {}, host_gib=prepared)
    if not training.epochs:
        return
    yield _fleet(
        config,
        stage,
        f"{stage}.workers",
        Role.training,
        training.gpus_per_worker,
        gpu_gib=gpu,
        share=min(training.gpus_per_worker, 1.0),
        host_gib=host,
        remedy=f"lower {stage}.tokens_per_batch or model.context, raise {stage}.workers with {stage}.zero_stage=3, "
        f"or set {stage}.lora.rank",
    )


def _engines(config: Config, stage: str, key: str, source: str) -> Group:
    """Replicas; in one of an ensemble, or of an implicit reward model, which is two, the models share its GPUs, and
    members that are kept as adapters one engine.
    """
    engine, gpu = getattr(config, key), 0.0
    scalar_head = key == "reward_engine" and config.train.kind is RewardKind.explicit
    models = 1 if key != "reward_engine" else config.train.ensemble.members * (1 if scalar_head else 2)
    if engine.gpus:
        lora = config.train.lora if scalar_head and config.train.lora.keep else None
        model = shape(config.model, source, scalar_head, lora)
        engines, adapters = (1, models) if lora else (models, 0)
        context = config.evaluate.judge.context if key == "judge_engine" else config.model.context
        gpu = engines * of_engine(model, engine, context, adapters)
    return _fleet(
        config,
        stage,
        f"{key}.replicas",
        Role.rollouts,
        engine.gpus,
        gpu_gib=gpu,
        share=engine.gpu_memory_utilization,
        remedy=f"raise {key}.tensor_parallel and {key}.gpus, or lower model.context"
        + (" or train.ensemble.members" if key == "reward_engine" and config.train.ensemble.members > 1 else ""),
    )


def _hosts(config: Config, stage: str) -> Group:
    return _fleet(config, stage, "hosts.workers", Role.environments)


def _fleet(config: Config, stage: str, number: str, role: Role, gpus: float = 0, **memory: Any) -> Group:
    """As many as the key `number` says, up to the key of the same name with `max_` where there is one."""
    key, name = number.split(".")
    part, options = getattr(config, key), actor_options(config, role, gpus)
    least, most = getattr(part, name), getattr(part, f"max_{name}", None)
    asked = {"CPU": options["num_cpus"], "GPU": options["num_gpus"], **options["resources"]}
    return Group(stage, number, least, max(least, most or 0), asked, **memory)

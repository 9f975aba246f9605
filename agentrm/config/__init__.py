"""Loading a configuration: a preset or a YAML file, then `key=value` overrides, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from agentrm.config.schema import (
    Config,
    Labels,
    Representation,
    RewardKind,
    RewardTraining,
    Scratch,
    Search,
    Tasks,
    TaskSet,
    Training,
    is_endpoint,
)
from agentrm.config.values import is_text, plain, read, to_yaml, type_of, verbatim, with_variables
from agentrm.environments import base_name, environment_class
from agentrm.environments.base import SPLITS, Task
from agentrm.errors import UserError

MOST_QUEUED = 2048
"""How many requests over HTTP may wait; one of them may hold a place at two replicas of the service."""

# vLLM's attention kernels exist for these sizes only (its CPU backend has the shortest list).
_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)

_SCHEMA = OmegaConf.structured(Config)

PRESETS = Path(__file__).parent / "presets"


def presets() -> list[str]:
    """The names that `load` knows without a path."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load(source: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a preset's name or a YAML file's path, with dot-list overrides such as `clone.epochs=1`.

    Where the schema says text, what follows the first `=` is taken as it is, as is what a file writes without quotes;
    only `${oc.env:NAME}` in it stands for a variable of the environment.

    Raises UserError that names the key for an unknown key, a value of the wrong type or out of range, an unknown
    environment, kind or split, and a missing value.
    """
    path = PRESETS / f"{source}.yaml" if source in presets() else Path(source)
    if not path.is_file():
        raise UserError(f"no preset or file {source}: the presets are {', '.join(presets())}")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', 'it is no text')}") from error
    return _checked(_given(text, str(path)), str(path), overrides)


def changed(config: Config, overrides: Sequence[str]) -> Config:
    """A copy of the configuration with overrides. Raises UserError as `load` does."""
    return _checked(_given(to_yaml(config), "the preset", verbatim), "the preset", overrides)


def stored(text: str, name: str) -> Config:
    """The configuration that `resolved` gave; what `load` checks against this machine's environments is taken as it is,
    and so is every text.

    Raises UserError that begins with `name`, the text's file.
    """
    return _merge(_given(text, name, verbatim), name, ())


def resolved(config: Config) -> str:
    """The resolved configuration as YAML that `stored` reads back equal, but for the API key."""
    return to_yaml(replace(config, serve=replace(config.serve, api_key="")))


def flatten(config: Config) -> dict[str, object]:
    """The resolved configuration as `{dotted key: value}`."""

    def walk(node: object, key: str) -> Iterable[tuple[str, object]]:
        if isinstance(node, dict):
            for name in node:
                yield from walk(node[name], ".".join(filter(None, (key, name))))
        else:
            yield key, node

    return dict(walk(plain(config), ""))


def _given(text: str, name: str, take: Callable[[str], str] = with_variables) -> dict[str, Any]:
    """What a file's YAML gives, for OmegaConf. Raises UserError."""
    try:
        given = read(text, Config, take) or {}
    except YAMLError as error:
        raise UserError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise UserError(f"{name} holds no keys: write lines such as seed: 0")
    return given


def _checked(given: dict[str, Any], name: str, overrides: Sequence[str]) -> Config:
    config = _merge(given, name, [_parsed(override) for override in overrides])
    _check(config)
    return config


def _parsed(override: str) -> tuple[str, Any]:
    """An override's key, and its value for OmegaConf. Raises UserError."""
    key, marked, text = override.partition("=")
    if not marked:
        raise UserError(f"cannot read the override {override!r}: write key=value, such as clone.epochs=1")
    if text == "???":
        raise UserError(f"the override {override} gives no value: write key=value, such as clone.epochs=1")
    expected = type_of(key)
    if is_text(expected):
        return key, with_variables(text)
    try:
        return key, read(text, expected)
    except YAMLError as error:
        raise UserError(f"cannot read the override {override!r}: {' '.join(str(error).split())}") from error


def _merge(given: dict[str, Any], name: str, overrides: Iterable[tuple[str, Any]]) -> Config:
    """The configuration of what `name` gives, with overrides as keys and values."""
    try:
        merged = OmegaConf.merge(_SCHEMA, given)
        for key, value in overrides:
            OmegaConf.update(merged, key, value)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise UserError(f"the key {missing[0]} has no value: give it in {name} or as {missing[0]}=...")
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        raise UserError(f"the key {key} cannot be used: {str(error).splitlines()[0]}") from error
    assert isinstance(config, Config)
    return config


def tasks(sets: Sequence[TaskSet], seed: int) -> list[Task]:
    """The tasks of some task sets: each kind's in turn, as long as it has more. Raises UserError for too few tasks."""
    chosen: list[Task] = []
    for each in sets:
        cls = environment_class(each.environment)
        sizes = {kind: cls.size(kind, each.split) for kind in each.kinds or cls.kinds}
        found = [
            cls.task(kind, each.split, index, seed)
            for index in range(each.offset, min(max(sizes.values()), each.offset + each.count))
            for kind, size in sizes.items()
            if index < size
        ]
        if len(found) < each.count:
            raise UserError(
                f"{each.environment} has {len(found)} tasks of these kinds in {each.split} from index {each.offset}, "
                f"not {each.count}: lower count or offset, or add kinds"
            )
        chosen += found[: each.count]
    return chosen


def _check(config: Config) -> None:
    groups = {
        "demonstrations": config.tasks.demonstrations,
        "trees": config.tasks.trees,
        "held_in": config.tasks.held_in,
        "held_out_kinds": config.tasks.held_out_kinds,
        "held_out_environments": config.tasks.held_out_environments,
    }
    for name, sets in groups.items():
        for number, each in enumerate(sets):
            key = f"tasks.{name}[{number}]"
            cls = environment_class(each.environment)
            if each.split not in SPLITS:
                raise UserError(f"the key {key}.split is {each.split}: it must be one of {', '.join(SPLITS)}")
            unknown = [kind for kind in each.kinds if kind not in cls.kinds]
            if unknown:
                raise UserError(
                    f"the key {key}.kinds holds {unknown[0]}: {each.environment} has {', '.join(cls.kinds)}"
                )
            _positive(f"{key}.count", each.count)
        tasks(sets, config.tasks.seed)
    _check_held_out(config.tasks)
    for name, training in (("clone", config.clone), ("train", config.train)):
        _check_training(name, training)
    _check_reward_training(config.train)
    _check_learned(config.train.labels.environments, learned_sets(config.tasks))
    positive: tuple[tuple[str, float], ...] = (
        ("model.context", config.model.context),
        ("sampling.max_tokens", config.sampling.max_tokens),
        ("trees.expansions", config.trees.expansions),
        ("trees.simulations", config.trees.simulations),
        ("trees.max_depth", config.trees.max_depth),
        ("trees.trees_per_task", config.trees.trees_per_task),
        ("trees.concurrency", config.trees.concurrency),
        ("trees.builders", config.trees.builders),
        ("evaluate.n", config.evaluate.n),
        ("evaluate.width", config.evaluate.width),
        ("evaluate.branches", config.evaluate.branches),
        ("evaluate.lookahead", config.evaluate.lookahead),
        ("evaluate.concurrency", config.evaluate.concurrency),
        ("policy_engine.replicas", config.policy_engine.replicas),
        ("reward_engine.replicas", config.reward_engine.replicas),
        ("hosts.workers", config.hosts.workers),
        ("hosts.deadline_s", config.hosts.deadline_s),
        ("serve.max_conversations", config.serve.max_conversations),
        ("serve.max_queued_requests", config.serve.max_queued_requests),
    )
    for name, value in positive:
        _positive(name, value)
    _check_search(config.trees)
    if config.model.source == "scratch":
        _check_scratch(config.model.scratch)
    most = (
        ("policy_engine", "replicas", config.policy_engine),
        ("reward_engine", "replicas", config.reward_engine),
        ("hosts", "workers", config.hosts),
        ("trees", "builders", config.trees),
    )
    for key, name, part in most:
        low, high = getattr(part, name), getattr(part, f"max_{name}")
        if high is not None and high < low:
            raise UserError(f"the key {key}.max_{name} is {high}: it must be at least {key}.{name}, which is {low}")
    for key, engine in (("policy_engine", config.policy_engine), ("reward_engine", config.reward_engine)):
        if engine.gpus and engine.tensor_parallel > max(engine.gpus, 1):
            told = f"the key {key}.tensor_parallel is {engine.tensor_parallel}"
            raise UserError(f"{told}: a replica has {engine.gpus:g} GPUs, so set {key}.gpus to as many")
    budgets = ("max_tokens", "max_steps", "max_scores", "max_seconds", "iterations", "rollouts")
    for key, searching in (("trees", config.trees), ("evaluate", config.evaluate), ("trees.test", config.trees.test)):
        for name in budgets:
            if (budget := getattr(searching, name, None)) is not None:
                _positive(f"{key}.{name}", budget)
    if is_endpoint(config.model.source) != bool(config.model.name):
        raise UserError("model.name, the name of a model, goes together with an endpoint's address as model.source")
    judge = config.evaluate.judge
    if (judge.source == "policy") == bool(judge.name) or (judge.name and not is_endpoint(judge.source)):
        raise UserError(
            f"the key evaluate.judge.source is {judge.source}: it must be policy, or an endpoint's address together "
            "with evaluate.judge.name"
        )
    if not 0 <= config.clone.observation_share <= 1:
        raise UserError(f"the key clone.observation_share is {config.clone.observation_share}: it must be from 0 to 1")
    if config.sampling.temperature < 0:
        raise UserError(f"the key sampling.temperature is {config.sampling.temperature}: it must be 0 or more")
    if not 0 < config.sampling.top_p <= 1:
        raise UserError(f"the key sampling.top_p is {config.sampling.top_p}: it must be above 0 and at most 1")
    if not 0 < config.evaluate.confidence < 1:
        raise UserError(f"the key evaluate.confidence is {config.evaluate.confidence}: it must be between 0 and 1")
    if config.serve.max_queued_requests > MOST_QUEUED:
        told = f"the key serve.max_queued_requests is {config.serve.max_queued_requests}"
        raise UserError(f"{told}: it must be {MOST_QUEUED} at most, for more find no room at a replica")
    if config.serve.host not in ("127.0.0.1", "localhost", "::1") and not config.serve.api_key:
        raise UserError(f"the key serve.host is {config.serve.host}: serving beyond localhost needs serve.api_key")


def _check_held_out(chosen: Tasks) -> None:
    """A perturbation is the same environment in another wording, so it is held out from nothing."""
    trained = {kind for each in learned_sets(chosen) for kind in _kinds(each)}
    for each in chosen.held_out_kinds:
        for kind in _kinds(each):
            if kind in trained:
                raise UserError(f"tasks.held_out_kinds holds {each.environment} {kind[1]}, which tasks.trees trains on")
    for each in chosen.held_out_environments:
        if base_name(each.environment) in {name for name, _ in trained}:
            raise UserError(f"tasks.held_out_environments holds {each.environment}, which tasks.trees trains on")


def learned_sets(chosen: Tasks) -> list[TaskSet]:
    """The tasks whose trees the reward model learns from."""
    return [each for each in chosen.trees if each.split == "train"]


def learned_kinds(config: Config) -> set[str]:
    """The kinds, as ENVIRONMENT.KIND, that the reward model learns from."""
    kinds = ((each.environment, kind) for each in learned_sets(config.tasks) for kind in kind_names(each))
    return {kind for environment, kind in kinds if is_named(config.train.labels, environment, kind)}


def is_named(labels: Labels, environment: str, kind: str) -> bool:
    """Whether `labels.environments` holds a `kind`, ENVIRONMENT.KIND: itself, its environment, or nothing at all."""
    named = labels.environments
    return not named or environment in named or kind in named


def measuring(search: Search) -> Search:
    """The search of the trees that the reward model is measured on: that of all trees, but for `test`."""
    given = {name: value for name, value in asdict(search.test).items() if value is not None}
    return replace(search, **given)


def _kinds(each: TaskSet) -> list[tuple[str, str]]:
    kinds = each.kinds or environment_class(each.environment).kinds
    return [(base_name(each.environment), kind) for kind in kinds]


def kind_names(each: TaskSet) -> list[str]:
    """The kinds of a task set as ENVIRONMENT.KIND."""
    return [f"{each.environment}.{kind}" for kind in each.kinds or environment_class(each.environment).kinds]


def _check_scratch(scratch: Scratch) -> None:
    for name in ("layers", "heads"):
        _positive(f"model.scratch.{name}", getattr(scratch, name))
    size, rest = divmod(scratch.hidden, scratch.heads)
    if rest or size not in _HEAD_SIZES:
        raise UserError(
            f"the keys model.scratch.hidden={scratch.hidden} and heads={scratch.heads} give heads of "
            f"{scratch.hidden / scratch.heads:g}: choose them so that hidden / heads is one of "
            f"{', '.join(map(str, _HEAD_SIZES))}"
        )
    if scratch.kv_heads is not None and (scratch.kv_heads < 1 or scratch.heads % scratch.kv_heads):
        raise UserError(f"the key model.scratch.kv_heads is {scratch.kv_heads}: it must divide heads={scratch.heads}")


def _check_search(search: Search) -> None:
    for name, low, high in (("widening", 0, 1), ("discount", 0, 1), ("exploration", 0, inf), ("virtual_loss", 0, inf)):
        if not low <= getattr(search, name) <= high:
            bounds = "0 or more" if high == inf else f"from {low} to {high}"
            raise UserError(f"the key trees.{name} is {getattr(search, name)}: it must be {bounds}")
    for name in ("resamples", "rollout_steps"):
        if (getattr(search, name) or 0) < 0:
            raise UserError(f"the key trees.{name} is {getattr(search, name)}: it must be 0 or more")
    if (search.rollout_steps is None) != (not search.bootstrap):
        raise UserError("trees.rollout_steps and trees.bootstrap go together: a cut rollout needs a reward model")


def _check_training(key: str, training: Training) -> None:
    probes = isinstance(training, RewardTraining) and training.kind is RewardKind.explicit and training.probe
    if training.epochs or not probes:
        _positive(f"{key}.epochs", training.epochs)
    for name in ("learning_rate", "tokens_per_batch", "accumulate", "workers", "checkpoints"):
        _positive(f"{key}.{name}", getattr(training, name))
    lora = training.lora
    if lora.rank < 0:
        raise UserError(f"the key {key}.lora.rank is {lora.rank}: it must be above 0, or 0 to train all weights")
    _positive(f"{key}.lora.alpha", lora.alpha)
    if not 0 <= lora.dropout < 1:
        raise UserError(f"the key {key}.lora.dropout is {lora.dropout}: it must be at least 0 and below 1")
    for name in (tracker.value for tracker in training.trackers):
        if find_spec(name) is None:
            raise UserError(f"the key {key}.trackers holds {name}, which is not installed: install agentrm[{name}]")
    if training.zero_stage not in (0, 1, 2, 3):
        raise UserError(f"the key {key}.zero_stage is {training.zero_stage}: it must be 0, 1, 2 or 3")
    if training.dtype not in ("float32", "bfloat16"):
        raise UserError(f"the key {key}.dtype is {training.dtype}: it must be float32 or bfloat16")


def _check_reward_training(train: RewardTraining) -> None:
    labels, shown = train.labels, train.representation
    _positive("train.labels.min_visits", labels.min_visits)
    for name in ("share", "decay"):
        if not 0 < getattr(labels, name) <= 1:
            raise UserError(f"the key train.labels.{name} is {getattr(labels, name)}: it must be above 0 and at most 1")
    if not 0 <= train.contrast <= 1:
        raise UserError(f"the key train.contrast is {train.contrast}: it must be from 0 to 1")
    _positive("train.beta", train.beta)
    if not 0 <= train.likelihood < inf:
        raise UserError(f"the key train.likelihood is {train.likelihood}: it must be 0 or more")
    _positive("train.ensemble.members", train.ensemble.members)
    if train.ensemble.members > 1 and not train.epochs:
        raise UserError("train.ensemble.members needs train.epochs: members that only fit a head are all the same")
    if not 0 <= train.ensemble.penalty < inf:
        raise UserError(f"the key train.ensemble.penalty is {train.ensemble.penalty}: it must be 0 or more")
    if train.kind is not RewardKind.explicit:
        _check_implicit(train)
    if not (shown.thoughts or shown.actions or shown.observations):
        raise UserError("train.representation drops thoughts, actions and observations: keep one of them")


def _check_implicit(train: RewardTraining) -> None:
    """An implicit reward model reads each token of a whole state after another, as its reference did."""
    plain, shown = asdict(Representation()), asdict(train.representation)
    needed = [f"representation.{name}={str(value).lower()}" for name, value in plain.items() if shown[name] != value]
    needed += ["merge_paths=false"] if train.merge_paths else []
    if needed:
        changes = " ".join(f"train.{change}" for change in needed)
        raise UserError(f"train.kind={train.kind.value} reads whole states as they are, token by token: add {changes}")


def _check_learned(names: Sequence[str], trees: Sequence[TaskSet]) -> None:
    known = {name for each in trees for name in kind_names(each)} | {each.environment for each in trees}
    for name in names:
        if name not in known:
            raise UserError(
                f"train.labels.environments holds {name}: tasks.trees has {', '.join(sorted(known))} to learn from"
            )


def _positive(key: str, number: float) -> None:
    if not number > 0:
        raise UserError(f"the key {key} is {number}: it must be above 0")

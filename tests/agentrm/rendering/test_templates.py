"""Any conversation under the chat templates of today, those in TRL's wheel: ids are those of `apply_chat_template`."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import trl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from agentrm.config.schema import Thinking
from agentrm.core.errors import InputRefused
from agentrm.core.messages import Conversation, Message, Tool, ToolCall, runs
from agentrm.rendering.renderer import Rendered, Renderer
from agentrm.rendering.template import fixed_day
from tests.agentrm.rendering.test_renderer import CORES, tokenizer

FOLDER = Path(trl.__file__).parent / "chat_templates"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja"))
ORIGINALS = [name for name in NAMES if not name.endswith("_training")]
KINDS = ("bytes", "first", "legacy")

_SPECIAL = re.compile(
    r"<\|[\w▁/ ]+?\|>|<\uff5c[\w▁]+?\uff5c>|\[/?[A-Z_]{3,}\]|</?s>|<bos>|<eos>|<(?:start|end)_of_turn>"
    r"|<turn\|>|<\|turn>|<channel\|>|<\|channel>"
)
LOOK_UP: Tool = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "looks",
        "parameters": {"type": "object", "properties": {"q": {"type": "string", "description": "what"}}},
    },
}
SYSTEM: Message = {"role": "system", "content": "You are good."}
TEXT = st.sampled_from(
    [
        "go to box 12",
        "Thought: it is near\nAction: go",
        "",
        " a \n",
        "  é🙂\n\n ",
        "日本語",
        "<think>\nwhy\n</think>\n\nleft",
        "<tool_response>\na wall\n</tool_response>",
        "None",
    ]
)
THOUGHT = st.none() | st.sampled_from(["why", "\nit is near\n", ""])


@lru_cache
def made(name: str, kind: str) -> PreTrainedTokenizerFast:
    template = (FOLDER / f"{name}.jinja").read_text()
    special = ["<s>", *sorted(set(_SPECIAL.findall(template)) - {"<s>", "</s>"}), "</s>"]
    return tokenizer(special, fixed_day(template), CORES[kind](special))


@lru_cache
def renderer(name: str, kind: str, thinking: Thinking = Thinking.template) -> Renderer:
    return Renderer(made(name, kind), 100_000, thinking=thinking)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


@st.composite
def agent(draw: st.DrawFn, tools: bool) -> list[Message]:
    """A turn and what answers it."""
    turn: Message = {"role": "assistant", "content": draw(TEXT)}
    if (thought := draw(THOUGHT)) is not None:
        turn["reasoning_content"] = thought
    if not (tools and draw(st.booleans())):
        return [turn, *map(user, draw(st.lists(TEXT, min_size=1, max_size=2)))]
    calls = [ToolCall("look_up", '{"q": "red é"}', f"abcdefgh{number}") for number in range(draw(st.integers(1, 2)))]
    turn |= {"content": draw(st.none() | TEXT), "tool_calls": [call.message() for call in calls]}
    answers = [{"role": "tool", "content": draw(TEXT), "tool_call_id": call.id, "name": call.name} for call in calls]
    return [turn, *answers, *map(user, draw(st.lists(TEXT, max_size=1)))]


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    tools = draw(st.booleans())
    messages = [SYSTEM] if draw(st.booleans()) else []
    messages += map(user, draw(st.lists(TEXT, min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 5))):
        messages += draw(agent(tools))
    return Conversation(messages, [LOOK_UP] if tools else [])


def theirs(words: PreTrainedTokenizerFast, given: Conversation, opened: bool = False) -> list[list[int] | None]:
    """What the tokenizer gives for arguments as an object and as text; None where the template refuses."""
    found: list[list[int] | None] = []
    for as_text in (False, True):
        messages: list[Any] = deepcopy(list(given.messages))
        for call in (call for message in messages for call in message.get("tool_calls", ())):
            if not as_text:
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        try:
            ids = words.apply_chat_template(messages, tools=list(given.tools) or None, add_generation_prompt=opened)
            found.append(ids["input_ids"])
        except Exception:  # templates raise whatever they like
            found.append(None)
    return found


def beginnings(given: Conversation) -> list[Conversation]:
    """The states of a conversation."""
    opening, steps = runs(given.messages)
    messages, found = list(opening), [Conversation(list(opening), given.tools)]
    for step in steps:
        messages += [step.agent, *step.answers]
        found.append(Conversation(list(messages), given.tools))
    return found


def ours(made: Renderer, given: Conversation, opened: bool = False) -> list[int] | None:
    try:
        return (made.prompt if opened else made.ids)(given)
    except InputRefused:
        return None


@pytest.mark.filterwarnings("ignore:the chat template")
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given_=conversations(), kind=st.sampled_from(KINDS))
def test_every_state_has_the_ids_of_the_template(name: str, given_: Conversation, kind: str) -> None:
    words, made_ = made(name, kind), renderer(name, kind)
    states = beginnings(given_)
    for state in states:
        for opened in (False, True):
            expected, found = theirs(words, state, opened), ours(made_, state, opened)
            # What it refuses with a message that says nothing may be taken with empty text.
            if any(each is not None for each in expected) or all(m["content"] is not None for m in state.messages):
                assert found in expected
    if ours(made_, given_) is not None:
        check_cover(made_, states, made_.cover(given_))
        if all(ours(made_, state, opened=True) is not None for state in states):
            check_turns(made_, given_, made_.turns(given_))


@pytest.mark.filterwarnings("ignore:the chat template")
@pytest.mark.parametrize("name", NAMES)
def test_as_many_turns_of_the_user_in_a_row_as_there_are(name: str) -> None:
    words = made(name, "bytes")
    fresh = Renderer(words, 100_000)
    turn: Message = {"role": "assistant", "content": "go on"}
    for count in (1, 2, 4, 3):
        several = [user(f"seen {number}") for number in range(count)]
        for messages in (several, [user("start"), turn, *several], [*several, turn, *several]):
            given_ = Conversation(messages)
            assert ours(fresh, given_) in theirs(words, given_)


@pytest.mark.filterwarnings("ignore:the chat template")
@pytest.mark.parametrize("name", NAMES)
def test_thoughts_of_nothing_tell_nothing_of_others(name: str) -> None:
    words = made(name, "bytes")
    fresh = Renderer(words, 100_000)
    call = ToolCall("look_up", "{}", "abcdefgh1").message()
    answer: Message = {"role": "tool", "content": "1815", "tool_call_id": "abcdefgh1", "name": "look_up"}
    for thought in ("", "\n", "why", " why\n"):
        turn: Message = {"role": "assistant", "content": "I look it up", "tool_calls": [call]}
        turn["reasoning_content"] = thought
        said: Message = {"role": "assistant", "content": "in 1815"}
        for state in beginnings(Conversation([user("go"), turn, answer, said, user("and then?")], [LOOK_UP])):
            assert ours(fresh, state) in theirs(words, state)


def check_cover(made: Renderer, states: Sequence[Conversation], covering: Sequence[Rendered]) -> None:
    """Each state is a beginning of exactly one sequence."""
    for number, state in enumerate(states):
        held = [
            each.ids[: end + 1]
            for each in covering
            if number < len(each.states) and (end := each.states[number]) is not None
        ]
        expected = ours(made, state)
        assert held == [expected] or (expected is None and not held)


def check_turns(made: Renderer, given: Conversation, sequences: Sequence[Rendered]) -> None:
    """All turns are marked, each behind what a policy is asked with."""
    for state, rendered in zip(beginnings(given), sequences, strict=False):
        asked = made.prompt(state)
        if rendered.states:
            assert not any(rendered.agent[: len(asked)])
            return
        assert rendered.ids[: len(asked)] == asked
        assert rendered.agent == [False] * len(asked) + [True] * (len(rendered.ids) - len(asked))


STEPWISE = {
    "texts": [user("go"), *[{"role": "assistant", "content": "left"}, user("a wall")] * 3],
    "tool loop": [
        user("go"),
        *[
            {"role": "assistant", "content": None, "tool_calls": [ToolCall("look_up", "{}", "abcdefgh1").message()]},
            {"role": "tool", "content": "1", "tool_call_id": "abcdefgh1", "name": "look_up"},
        ]
        * 3,
    ],
}
REWRITES = {"phi3", "phi3_5"}


@pytest.mark.filterwarnings("ignore:the chat template")
def test_nearly_all_templates_append_what_the_environment_says() -> None:
    taken = {}
    for name in ORIGINALS:
        made = renderer(name, "bytes")
        found = {
            what: len(made.cover(Conversation(messages, [LOOK_UP] if what == "tool loop" else [])))
            for what, messages in STEPWISE.items()
            if ours(made, Conversation(messages)) is not None
        }
        taken[name] = found
    # LLaVA's takes content in parts alone.
    assert {name for name, found in taken.items() if "texts" not in found} == {"llava_next"}
    assert {name for name, found in taken.items() if found.get("texts", 1) > 1} == REWRITES
    assert sum(found.get("tool loop") == 1 for found in taken.values()) >= 28


@pytest.mark.parametrize("name", ["qwen3", "gptoss", "llama3_1"])
def test_thoughts_are_kept_or_dropped(name: str) -> None:
    turn: Message = {"role": "assistant", "content": "left", "reasoning_content": "it is near"}
    messages = [user("go"), turn, user("a wall")]
    without = [user("go"), {"role": "assistant", "content": "left"}, user("a wall")]
    kept, dropped = (renderer(name, "bytes", thinking) for thinking in (Thinking.keep, Thinking.drop))
    assert dropped.ids(messages) == renderer(name, "bytes").ids(without)
    last = made(name, "bytes").decode(kept.ids(messages[:2]))
    assert "it is near" in last
    assert "left" in last


def test_settings_reach_the_template() -> None:
    words = made("qwen3", "bytes")
    asked = words.apply_chat_template([user("go")], add_generation_prompt=True, enable_thinking=False)["input_ids"]
    assert Renderer(words, 1000, settings={"enable_thinking": False}).prompt([user("go")]) == asked
    assert Renderer(words, 1000).prompt([user("go")]) != asked


def test_a_template_without_tools_says_so_once() -> None:
    words = made("gemma3", "bytes")
    with pytest.warns(UserWarning, match="shows no tools"):
        Renderer(words, 1000).ids(Conversation([user("go")], [LOOK_UP]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Renderer(words, 1000).ids(Conversation([user("go")], []))


def test_parts_are_shown_as_text_where_the_template_takes_text_alone() -> None:
    parts: Message = {"role": "user", "content": [{"type": "text", "text": "go"}, {"type": "text", "text": "left"}]}
    assert renderer("qwen2_5", "bytes").ids([parts]) == renderer("qwen2_5", "bytes").ids([user("go\nleft")])
    words = made("qwen2_5_vl", "bytes")
    assert renderer("qwen2_5_vl", "bytes").ids([parts]) == words.apply_chat_template([parts])["input_ids"]

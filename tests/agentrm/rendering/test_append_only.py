"""The template that reward models may have in place of their base's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from agentrm.core.errors import UserError
from agentrm.core.messages import Conversation
from agentrm.rendering.append_only import append_only
from agentrm.rendering.renderer import Renderer
from tests.agentrm.rendering.test_renderer import tokenizer
from tests.agentrm.rendering.test_templates import beginnings, conversations, theirs

VOCABULARIES = {"chatml": ["<s>", "<|im_start|>", "<|im_end|>", "</s>"], "plain": ["<s>", "</s>"]}
RENDERERS = {}
for name, special in VOCABULARIES.items():
    words = tokenizer(special, None)
    words.chat_template = append_only(words)
    RENDERERS[name] = Renderer(words, 100_000)


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=60, deadline=None)
@given(given_=conversations())
def test_every_state_is_a_beginning_of_the_whole(name: str, given_: Conversation) -> None:
    renderer = RENDERERS[name]
    (rendered,) = renderer.cover(given_)
    text = renderer.tokenizer.decode(rendered.ids)
    for number, state in enumerate(beginnings(given_)):
        ids = renderer.ids(state)
        assert ids in theirs(renderer.tokenizer, state)
        assert rendered.states[number] == len(ids) - 1
        assert rendered.ids[: len(ids)] == ids
    for message in given_.messages:
        assert (message.get("reasoning_content") or "") in text
        assert all(call["function"]["name"] in text for call in message.get("tool_calls", ()))
    assert ("look_up" in text) == bool(given_.tools)


def test_a_vocabulary_without_an_end_is_refused() -> None:
    words = tokenizer(["<s>", "</s>"], None)
    words.eos_token = None
    with pytest.raises(UserError, match=r"train\.template=base"):
        append_only(words)

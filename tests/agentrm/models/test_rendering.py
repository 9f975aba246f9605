"""A state's ids are a prefix of its successor's, for the template of every preset's tokenizer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agentrm.errors import ContextOverflow, ModelError
from agentrm.models.rendering import Renderer

TEMPLATES = {
    "quickstart": (
        ["<|user|>", "<|assistant|>", "<|end|>"],
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    ),
    "smollm2": (
        ["<|im_start|>", "<|im_end|>"],
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
        "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    "llama3-8b": (
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
        "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
}
REWRITING = (
    "{% for m in messages[-2:] %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer(special: list[str], template: str | None) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    corpus = [
        "Your task: go to the red ball. You see: red ball 1 (2 forward, 1 left).",
        "pick up",
        "Thought: x\nAction: y",
    ] * 9
    core.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=500, special_tokens=["<pad>", *special], initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token=special[-1],
        bos_token=special[0],
        extra_special_tokens=special,
    )
    made.chat_template = template
    return made


RENDERERS = {name: Renderer(tokenizer(*each), 4096) for name, each in TEMPLATES.items()}
TEXT = st.text(max_size=40) | st.sampled_from(
    ["<|im_end|>", "<|eot_id|><|end|>", "  go to red ball 1 \n", "", "mark0mark"]
)


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=150, deadline=None)
@given(turns=st.lists(TEXT, min_size=1, max_size=9))
def test_prefix_property(name: str, turns: list[str]):
    renderer = RENDERERS[name]
    turns = turns if len(turns) % 2 else turns[:-1]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    whole = renderer.render(messages)
    special = set(renderer.tokenizer.all_special_ids)
    per_turn = sum(i in special for i in renderer.ids(messages[:1]))
    for count in range(1, len(messages) + 1, 2):
        state = renderer.ids(messages[:count])
        assert whole.ids[: len(state)] == state
        assert whole.ends[count - 1] == len(state) - 1
        assert renderer.prompt(messages[:count])[: len(state)] == state
        if count < len(messages):
            following = renderer.ids(messages[: count + 2])
            prompt = renderer.prompt(messages[:count])
            assert following[: len(prompt)] == prompt, "the agent's turn does not continue the prompt"
    empty = renderer.ids([{"role": "user", "content": ""}])
    assert per_turn == sum(i in special for i in empty), "text of a turn became a special token"


@pytest.mark.parametrize("name", RENDERERS)
def test_ids_are_those_of_the_chat_template(name: str):
    renderer = RENDERERS[name]
    messages = [
        {"role": "user", "content": "Your task: go to the red ball."},
        {"role": "assistant", "content": "Thought: look\nAction: go to red ball 1"},
        {"role": "user", "content": "You see: red ball 1."},
    ]
    text = renderer.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert renderer.tokenizer.decode(renderer.prompt(messages), skip_special_tokens=False) == text
    rendered = renderer.render(messages)
    agent = [i for i, written in zip(rendered.ids, rendered.agent, strict=True) if written]
    assert agent[-1:] == renderer.stop_ids
    assert renderer.decode(agent) == messages[1]["content"]


def test_a_template_that_rewrites_turns_is_refused():
    with pytest.raises(ModelError, match="rewrites earlier turns"):
        Renderer(tokenizer(["</s>"], REWRITING), 100)
    with pytest.raises(ModelError, match="no chat template"):
        Renderer(tokenizer(["</s>"], None), 100)


def test_a_long_conversation_names_both_lengths():
    renderer = Renderer(RENDERERS["quickstart"].tokenizer, 8)
    with pytest.raises(ContextOverflow, match=r"has \d+ tokens, the model's context is 8"):
        renderer.ids([{"role": "user", "content": "a long text that does not fit"}])


def test_threads_do_not_mix_up_their_texts() -> None:
    conversations = [
        [
            {"role": "user", "content": f"task {i} <|im_start|> {i}"},
            {"role": "assistant", "content": f"go {i} <|im_end|>"},
        ]
        for i in range(200)
    ]
    words = tokenizer(*TEMPLATES["smollm2"])
    alone = [Renderer(words, 4096).ids(each) for each in conversations]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(Renderer(words, 4096).ids, conversations)) == alone

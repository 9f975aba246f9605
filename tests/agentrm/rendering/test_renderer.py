"""Ids are those of the chat template, and a state's are a prefix of its successor's: for the template of every preset's
tokenizer, and for tokenizers that join the text of a turn with what stands around it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from agentrm.config.schema import Model, Scratch
from agentrm.core.errors import ContextOverflow, InputRefused, ModelError
from agentrm.core.messages import Message
from agentrm.models import explicit, implicit
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer, settle_template

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
CHATML = (
    ["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
)
TEMPLATES |= {
    # The roles are plain text.
    "zephyr": (
        ["<s>", "</s>"],
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    ),
    # A space before the answer, which nothing asks for.
    "llama2": (
        ["<s>", "</s>"],
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    ),
    "mistral-v0.2": (
        ["<s>", "</s>"],
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ ' [INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    ),
    "mistral-v0.3": (
        ["<s>", "[INST]", "[/INST]", "</s>"],
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
        "{% else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}",
    ),
    # Past thoughts are left out.
    "forgetful": (
        CHATML[0],
        "{% for m in messages %}{% set text = m.content if m.role == 'user' else m.content.split('</think>')[-1] %}"
        "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    # The last answer ends otherwise, and answers are of a kind that is written down.
    "channels": (
        ["<|start|>", "<|end|>", "<|return|>", "<|channel|>"],
        "{% for m in messages %}<|start|>{{ m.role }}{{ '<|channel|>final:' if m.role == 'assistant' }}{{ m.content }}"
        "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    ),
}
CORPUS = [
    "Your task: go to the red ball. You see: red ball 1 (2 forward, 1 left).",
    "pick up",
    "Thought: x\nAction: y",
    "[INST] hello [/INST]( yes ]) )",
] * 9


def byte_level(special: list[str]) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=["<pad>", *special], initial_alphabet=alphabet)
    )
    return core


def sentence_piece(special: list[str], scheme: str | None) -> Tokenizer:
    """One with byte fallback that writes a space as a letter, and one more before a text: by `scheme`, or before every
    piece between special tokens, as Llama 2's first tokenizer did.
    """
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces = ["<unk>", "<pad>", *special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(
        (text.replace("\n", " ") for text in CORPUS), trainers.BpeTrainer(vocab_size=500, special_tokens=pieces)
    )
    known = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in known["merges"]]
    core = Tokenizer(models.BPE(known["vocab"], merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ["<pad>", *special]])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    if scheme is None:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return core


def unigram(special: list[str]) -> Tokenizer:
    """One whose vocabulary would find the special tokens in any text."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=["<unk>", "<pad>", *special], unk_token="<unk>")
    core.train_from_iterator(CORPUS, trainer)
    return core


def tokenizer(special: list[str], template: str | None, core: Tokenizer | None = None) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(
        tokenizer_object=core or byte_level(special),
        pad_token="<pad>",
        eos_token=special[-1],
        bos_token=special[0],
        extra_special_tokens=special,
    )
    made.chat_template = template
    return made


CORES: dict[str, Callable[[list[str]], Tokenizer]] = {
    "bytes": byte_level,
    "first": partial(sentence_piece, scheme="first"),
    "always": partial(sentence_piece, scheme="always"),
    "legacy": partial(sentence_piece, scheme=None),
    "unigram": unigram,
}
RENDERERS = {
    f"{name} {core}": Renderer(tokenizer(special, template, CORES[core](special)), 4096)
    for name, (special, template) in TEMPLATES.items()
    for core in (CORES if name in ("smollm2", "zephyr", "llama2") else ["bytes", "first"])
}
TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "<|im_end|>",
        "<|eot_id|><|end|></s>",
        "  go to red ball 1 \n",
        "",
        "mark0mark",
        "\n\nYou see",
        "<think>\nwhy\n</think>\n\n go",
        "(12) [INST]",
    ]
)


def conversation(*texts: str) -> list[Message]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=40, deadline=None)
@given(turns=st.lists(TEXT, min_size=1, max_size=7))
def test_ids_are_those_of_the_chat_template(name: str, turns: list[str]) -> None:
    renderer = RENDERERS[name]
    words = renderer.tokenizer
    special = set(words.all_special_ids)
    messages = conversation(*turns)
    whole = renderer.render(messages)
    assert len(whole.ids) == len(whole.agent) == (whole.states[-1] or 0) + 1
    for count in range(1, len(messages) + 1):
        state, prompt = renderer.ids(messages[:count]), renderer.prompt(messages[:count])
        if not any(token in text for text in turns[:count] for token in words.all_special_tokens):
            assert state == words.apply_chat_template(messages[:count])["input_ids"]
            if count % 2:
                assert prompt == words.apply_chat_template(messages[:count], add_generation_prompt=True)["input_ids"]
        if count % 2:
            assert whole.ids[: len(state)] == state
            assert whole.states[count // 2] == len(state) - 1
        if count % 2 and count < len(turns) and not turns[count][:1].isspace():
            assert whole.ids[: len(prompt)] == prompt, "the agent's turn does not continue the prompt"
    plain = renderer.ids(conversation(*["x"] * len(turns)))
    assert sum(i in special for i in whole.ids) == sum(i in special for i in plain), "text became a special token"


@pytest.mark.parametrize("name", [name for name in RENDERERS if not name.startswith("channels")])
def test_the_agent_writes_all_from_the_prompt_to_the_end_of_its_turn(name: str) -> None:
    renderer = RENDERERS[name]
    messages = conversation("Your task: go.", "Thought: look\nAction: go to red ball 1", "You see: red ball 1.")
    rendered = renderer.render(messages)
    begin = len(renderer.prompt(messages[:1]))
    agent = [i for i, written in enumerate(rendered.agent) if written]
    assert agent == list(range(begin, begin + len(agent)))
    turn = [rendered.ids[i] for i in agent]
    assert renderer.stop_ids == turn[-1:]
    # The vocabulary of `unigram` lacks most characters.
    assert renderer.decode(turn[:-1]) == messages[1]["content"] or name.endswith("unigram")


APPENDING = "{% for m in messages %}<s>{{ m.role }}:{{ m.content }}</s>{% endfor %}"
OPENING = "{% if add_generation_prompt %}<s>assistant:{% endif %}"


REWRITING = [
    "{% for m in messages[-2:] %}<s>{{ m.role }}:{{ m.content }}</s>{% endfor %}" + OPENING,
    APPENDING + "{% if add_generation_prompt %}<s>assistant:{% else %}<end>{% endif %}",
    APPENDING + "{% if add_generation_prompt %}<s>assistant:<think>{% endif %}",
    "{% for m in messages %}<s>{{ m.role }}:{{ m.content if m.role == 'user' }}</s>{% endfor %}" + OPENING,
    # No special token stands between an answer and what follows, and the tokenizer joins them.
    "{% for m in messages %}{{ '[INST]' ~ m.content ~ ' [/INST]' if m.role == 'user' else m.content ~ '</s>' }}"
    "{% endfor %}",
    # Only the fourth turn is another.
    "{% for m in messages %}<s>{{ m.role }}:{{ m.content ~ ('!' if loop.index == 4) }}</s>{% endfor %}" + OPENING,
    "{{ messages | length }}" + APPENDING + OPENING,
]


@pytest.mark.parametrize("template", REWRITING)
@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.sampled_from(["a (b)", "( c", "", "d ", "[x] "]), min_size=1, max_size=11))
def test_a_template_that_rewrites_is_followed(template: str, texts: list[str]) -> None:
    renderer = Renderer(tokenizer(["<s>", "</s>"], template), 4096)
    words = renderer.tokenizer
    messages = conversation(*texts)
    for count in range(1, len(messages) + 1):
        assert renderer.ids(messages[:count]) == words.apply_chat_template(messages[:count])["input_ids"]
        asked = words.apply_chat_template(messages[:count], add_generation_prompt=True)["input_ids"]
        assert renderer.prompt(messages[:count]) == asked
    states = {k: renderer.ids(messages[: 2 * k + 1]) for k in range((len(texts) + 1) // 2)}
    covered = [
        (k, rendered.ids[: end + 1])
        for rendered in renderer.cover(messages)
        for k, end in enumerate(rendered.states)
        if end is not None
    ]
    assert sorted(covered)[: len(states)] == sorted(states.items())


def test_a_template_that_takes_no_such_conversation_says_why() -> None:
    short = "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}" + APPENDING + OPENING
    renderer = Renderer(tokenizer(["<s>", "</s>"], short), 100)
    assert renderer.ids(conversation("go", "left"))
    with pytest.raises(InputRefused, match="does not take the conversation: one turn only"):
        renderer.ids(conversation("go", "left", "a wall"))
    with pytest.raises(ModelError, match="has no chat template"):
        Renderer(tokenizer(["<s>", "</s>"], None), 100)


def test_a_template_may_be_for_reward_models_alone() -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content | trim + ';\n' }}{% endfor %}"
    renderer = Renderer(tokenizer(TEMPLATES["channels"][0], template), 100)
    assert renderer.ids(conversation("go"))
    with pytest.raises(ModelError, match="no token of its own"):
        _ = renderer.stop_ids


def test_what_a_template_adds_to_an_answer_is_told_apart_from_it() -> None:
    renderer = RENDERERS["channels bytes"]
    words = renderer.tokenizer
    assert words.convert_ids_to_tokens(renderer.stop_ids) == ["<|return|>"]
    said = words.encode("<|channel|>final:go to red ball 1", add_special_tokens=False)
    assert renderer.said(said) == ("go to red ball 1", "")
    thoughts = words.encode(
        "<|channel|>it is near<|end|><|start|>assistant<|channel|>final:go", add_special_tokens=False
    )
    assert renderer.said(thoughts) == ("go", "it is near")


class Day(datetime):
    """A clock that stands still."""

    today_ = datetime(2024, 7, 26)

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return cls.today_


def test_a_conversation_is_the_same_on_any_day(monkeypatch: pytest.MonkeyPatch) -> None:
    dated = (
        "  {{ 'cutting' ~ ' ' ~ strftime_now('%d %B %Y') }}\n{% if date_string is not defined %}"
        '{% set date_string = strftime_now("%Y-%m-%d") %}{% endif %}{{ date_string }}' + APPENDING + OPENING
    )
    monkeypatch.setattr(chat_template_utils, "datetime", Day)
    words = tokenizer(["<s>", "</s>"], dated)
    messages = conversation("go", "left", "a wall")
    shown = words.apply_chat_template(messages, tokenize=False)
    assert shown.startswith("  cutting 26 July 2024\n2024-07-26<s>")
    first = Renderer(words, 4096).ids(messages)
    monkeypatch.setattr(Day, "today_", datetime(2031, 12, 1))
    assert "01 December 2031" in words.apply_chat_template(messages, tokenize=False)
    assert Renderer(words, 4096).ids(messages) == first
    for _ in range(2):
        settle_template(words)
        assert words.apply_chat_template(messages, tokenize=False) == shown
        assert words.apply_chat_template(messages)["input_ids"] == first


def prepare_from(source: Path, directory: Path) -> None:
    prepare(Model(source=str(source)), [], 0, directory)


@pytest.mark.parametrize("make", [prepare_from, explicit.build, implicit.copy])
def test_a_model_is_stored_with_its_day(
    make: Callable[[Path, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    prepare(Model(source="scratch", scratch=Scratch(vocabulary=300, hidden=64, layers=1, heads=2)), ["go"], 0, base)
    words = AutoTokenizer.from_pretrained(base)
    words.chat_template = "{{ strftime_now('%Y') }}" + words.chat_template
    words.save_pretrained(base)
    make(base, tmp_path / "made")
    monkeypatch.setattr(chat_template_utils, "datetime", Day)
    monkeypatch.setattr(Day, "today_", datetime(2031, 12, 1))
    stored = AutoTokenizer.from_pretrained(tmp_path / "made")
    messages = conversation("go")
    assert stored.apply_chat_template(messages, tokenize=False).startswith("2024")
    ids = stored.apply_chat_template(messages)["input_ids"]
    assert Renderer.from_pretrained(tmp_path / "made", 100).ids(messages) == ids
    assert Renderer.from_pretrained(base, 100).ids(messages) == ids


def test_a_long_conversation_names_both_lengths():
    renderer = Renderer(RENDERERS["quickstart bytes"].tokenizer, 8)
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
    alone = [*map(Renderer(words, 4096).ids, conversations)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(Renderer(words, 4096).ids, conversations)) == alone


def test_the_value_of_an_action_is_read_where_the_agents_turn_ends() -> None:
    words = tokenizer(*CHATML)
    renderer = Renderer(words, 100, actions=True)
    messages = conversation("go", "left", "a wall")
    rendered = renderer.render(messages)
    (end,) = rendered.actions
    assert end is not None
    assert words.convert_ids_to_tokens(rendered.ids[end]) == "<|im_end|>"
    assert renderer.ids(messages[:2]) == rendered.ids[: end + 1] != Renderer(words, 100).ids(messages[:2])
    assert renderer.ids(messages) == rendered.ids


def test_a_turn_that_begins_as_it_was_asked_for_begins_behind_that() -> None:
    thinking = APPENDING + "{% if add_generation_prompt %}<s>assistant:<think>{% endif %}"
    renderer = Renderer(tokenizer(["<s>", "</s>"], thinking), 100)
    renderer.render(conversation("go", "left", "a wall"))
    messages = conversation("go", "<think>why</think>left", "a wall")
    assert renderer.render(messages).agent.index(True) == len(renderer.prompt(messages[:1]))

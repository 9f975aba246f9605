"""The pipeline with a model in the shape of Qwen3 and its own chat template: thoughts kept and dropped, actions as
calls of tools and as text.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from agentrm.config.loading import load
from agentrm.data.demonstrations import read
from agentrm.data.trees import TreeStore
from agentrm.environments.registry import environment_class
from agentrm.models.initial import train_tokenizer
from agentrm.rendering.renderer import Renderer
from jobs import pipeline
from tests.agentrm.rendering.test_templates import FOLDER

TINY = str(Path(__file__).with_name("tiny.yaml"))
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# In Qwen3's vocabulary these are single tokens that text may hold too.
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
TEXTS = [
    (FOLDER / "qwen3.jinja").read_text(),
    str(environment_class("babyai").tools("goto_obj")),
    '<tool_call>\n{"name": "act", "arguments": {"command": "go to red ball 1"}}\n</tool_call> Thought: Action:',
    "Your task: You see: forward, left, right. You are in front of the ball. The episode has ended. pick up turn left",
] * 30


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of two layers with a tokenizer of its class, its special tokens and its template."""
    path = tmp_path_factory.mktemp("qwen3")
    words = train_tokenizer(TEXTS, 700, phrases=False)
    words.add_special_tokens({"additional_special_tokens": SPECIAL, "pad_token": SPECIAL[0], "eos_token": SPECIAL[2]})
    words.add_tokens(TAGS)
    words.chat_template = (FOLDER / "qwen3.jinja").read_text()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    words.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("form", "thinking", "settings"),
    [("tools", "keep", "{}"), ("react", "drop", "{enable_thinking: false}")],
)
def test_the_pipeline_runs_as_with_any_model(
    base: Path, tmp_path: Path, form: str, thinking: str, settings: str
) -> None:
    config = load(
        TINY,
        [
            f"run={tmp_path / 'run'}",
            f"model.source={base}",
            f"model.action_format={form}",
            f"model.thinking={thinking}",
            f"model.template_kwargs={settings}",
            "model.context=1024",
            "sampling.max_tokens=48",
            # Learned by heart, so that some episodes of their trees succeed and others do not.
            "tasks.demonstrations=[{environment: babyai, kinds: [goto_obj], count: 8}]",
            "tasks.trees=[{environment: babyai, kinds: [goto_obj], count: 6}]",
            "train.held_out_trees=0.5",
            "train.labels.at=[state,action]",
            "clone.tokens_per_batch=2048",
            "clone.epochs=40",
        ],
    )
    pipeline.run(config)
    run = tmp_path / "run"
    turns = [
        message
        for each in read(run / "demonstrations")
        for message in each.conversation.messages
        if message["role"] == "assistant"
    ]
    assert all(("tool_calls" in turn) == (form == "tools") for turn in turns)
    model = AutoModelForCausalLM.from_pretrained(run / "policy")
    assert model.config.agentrm_template == {"settings": dict(config.model.template_kwargs), "thinking": thinking}
    trees = [*TreeStore(run / "trees").trees()]
    assert len(trees) == 6
    assert all(bool(tree.tools) == (form == "tools") for tree in trees)
    renderer = Renderer.from_pretrained(run / "reward_model", 1024)
    words = AutoTokenizer.from_pretrained(run / "reward_model")
    for tree in trees:
        state = tree.state(len(tree.nodes) - 1).conversation()
        shown = words.decode(renderer.ids(state))
        assert ("<tools>" in shown) == (form == "tools")
        opened = words.decode(Renderer.from_pretrained(run / "policy", 1024).prompt(state))
        assert opened.endswith("<think>\n\n</think>\n\n" if settings != "{}" else "assistant\n")
    assert set(pq.read_table(run / "evaluation" / "episodes.parquet").column("task").to_pylist())

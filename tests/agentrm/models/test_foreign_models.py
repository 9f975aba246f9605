"""Reward models of others, by HTTP: the value of a conversation is the one that plain transformers gives it."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from agentrm.config.schema import Engine, Serve
from agentrm.core.messages import Message, Tool, ToolCall
from agentrm.models.scorers import open_scorer
from agentrm.rendering.template import fixed_day
from agentrm.service.api import create_app
from tests.agentrm.rendering.test_templates import FOLDER, made
from tests.processes import in_new_process

CONTEXT = 2048
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "head_dim": 32,
}
# Class, template, whether the padding token is the end of text, and whether the weights are in several files.
MODELS: dict[str, tuple[type[PreTrainedConfig], str, bool, bool]] = {
    "llama": (LlamaConfig, "llama3_1", True, False),
    "mistral": (MistralConfig, "lfm2", False, False),
    # Without a system turn.
    "gemma": (GemmaConfig, "gemma", False, False),
    "qwen2": (Qwen2Config, "qwen2_5", True, True),
    "qwen3": (Qwen3Config, "qwen3", True, False),
    "phi3": (Phi3Config, "phi3", False, False),
}
LABELS = {0: "harmful", 1: "helpful", 2: "rude"}
LOOK_UP: list[Tool] = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
PLAIN: list[Message] = [
    {"role": "user", "content": "go to box 12"},
    {"role": "assistant", "content": "Thought: it is near\nAction: go", "reasoning_content": "left or right?"},
    {"role": "user", "content": " you see 3 boxes\n"},
]
SYSTEM: Message = {"role": "system", "content": "You are good."}
LOOP: list[Message] = [
    SYSTEM,
    {"role": "user", "content": "how old is Ada?"},
    {"role": "assistant", "content": "", "tool_calls": [ToolCall("look_up", '{"q": "Ada"}', "abcdefgh1").message()]},
    {"role": "tool", "content": "born 1815", "tool_call_id": "abcdefgh1", "name": "look_up"},
]


def write(path: Path, shape: type[PreTrainedConfig], template: str, padded_by_end: bool, sharded: bool) -> None:
    words = made(template, "bytes")
    words.pad_token = words.eos_token if padded_by_end else "<pad>"
    torch.manual_seed(0)
    config = shape(**SHAPE, vocab_size=len(words), num_labels=1, pad_token_id=words.pad_token_id, attention_dropout=0)
    model = AutoModelForSequenceClassification.from_config(config)
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(path, max_shard_size="60KB" if sharded else "5GB")
    words.save_pretrained(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foreign")
    for name, (shape, template, padded_by_end, sharded) in MODELS.items():
        write(root / name, shape, template, padded_by_end, sharded)
    assert len([*(root / "qwen2").glob("*.safetensors")]) > 1
    single = AutoModelForSequenceClassification.from_pretrained(root / "llama")
    several = AutoModelForSequenceClassification.from_config(
        LlamaConfig(**single.config.to_dict() | {"num_labels": 3, "id2label": LABELS})
    )
    torch.nn.init.normal_(several.score.weight, std=1.0)
    several.save_pretrained(root / "labels")
    AutoTokenizer.from_pretrained(root / "llama").save_pretrained(root / "labels")
    rounded = AutoModelForSequenceClassification.from_pretrained(root / "qwen3", dtype=torch.bfloat16)
    rounded.save_pretrained(root / "bfloat16")
    AutoTokenizer.from_pretrained(root / "qwen3").save_pretrained(root / "bfloat16")
    return root


def bodies(name: str) -> list[dict[str, Any]]:
    plain = {"messages": PLAIN}
    return (
        [plain]
        if name in ("gemma", "phi3")
        else [plain, {"messages": [SYSTEM, *PLAIN]}, {"messages": LOOP, "tools": LOOK_UP}]
    )


def answers(root: Path) -> dict[str, Any]:
    """What each model answers over HTTP; the rounded one's values as float32."""
    names = (*MODELS, "labels", "bfloat16")
    engine = Engine(kv_cache_gib=0.02)
    scorers = {name: open_scorer(root / name, engine, CONTEXT, "helpful" if name == "labels" else "") for name in names}

    async def ask(name: str) -> dict[str, Any]:
        async def alive() -> bool:
            return scorers[name].alive

        app = create_app(scorers[name].read, alive, Serve(), name, CONTEXT, scorers[name].labels)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http:
            found = [(await http.post("/v1/score", json=body)).json() for body in bodies(name)]
            steps = (await http.post("/v1/score", json=bodies(name)[-1] | {"per": "step"})).json()
            classified = (await http.post("/classify", json={"messages": PLAIN})).json()
        return {"scores": [each["scores"][0] for each in found], "steps": steps["scores"][0], "classify": classified}

    async def ask_all() -> dict[str, Any]:
        return {name: await ask(name) for name in names}

    try:
        return asyncio.run(ask_all())
    finally:
        for scorer in scorers.values():
            scorer.close()


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, Any]:
    return in_new_process(answers, root)


def by_transformers(path: Path, messages: list[Message], tools: list[Tool]) -> list[float]:
    """All labels' values by the libraries that everybody has."""
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(path)
    messages = deepcopy(messages)
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        # Templates want objects.
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    with torch.inference_mode():
        inputs = words.apply_chat_template(messages, tools=tools or None, return_dict=True, return_tensors="pt")
        return model(input_ids=inputs["input_ids"]).logits[0].tolist()


@pytest.mark.parametrize("name", [*MODELS, "bfloat16"])
def test_a_value_is_that_of_transformers(root: Path, found: dict[str, Any], name: str) -> None:
    expected = [by_transformers(root / name, each["messages"], each.get("tools", [])) for each in bodies(name)]
    values = [value for (value,) in expected]
    assert found[name]["scores"] == pytest.approx(values, abs=1e-4)
    assert found[name]["steps"][-1] == pytest.approx(values[-1], abs=1e-4)
    assert len(found[name]["steps"]) == 2


def test_one_of_several_labels_is_the_reward_and_all_are_told(root: Path, found: dict[str, Any]) -> None:
    expected = by_transformers(root / "labels", PLAIN, [])
    assert found["labels"]["scores"][0] == pytest.approx(expected[1], abs=1e-4)
    (told,) = found["labels"]["classify"]["data"]
    assert told["probs"] == pytest.approx(expected, abs=1e-4)
    assert told["num_classes"] == 3
    assert told["label"] == LABELS[expected.index(max(expected))]


def test_templates_are_those_that_their_models_ship() -> None:
    assert all((FOLDER / f"{template}.jinja").is_file() for _, template, _, _ in MODELS.values())
    assert fixed_day((FOLDER / "qwen3.jinja").read_text()) == (FOLDER / "qwen3.jinja").read_text()

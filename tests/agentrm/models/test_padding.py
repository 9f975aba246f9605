"""The value of a state is one number, whoever reads it: whatever tokenizer a reward model is made with, its padding is
a token that no state holds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from agentrm.core.errors import ModelError
from agentrm.data.sequences import Sequences, collate
from agentrm.models.explicit import build, check_padding, raw_values, verify
from agentrm.models.padding import choose
from agentrm.rendering.renderer import Renderer
from agentrm.training.losses import ValueSquaredError
from tests.reward_models import LLAMA3, LLAMA3_TOKENS, draw_head, write_policy

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
NEW = "<|agentrm_pad|>"

# The chat template, the special tokens, those that end a turn and pad, and what the reward model pads with.
TOKENIZERS = {
    "Llama 3.1": (
        LLAMA3,
        [*LLAMA3_TOKENS, "<|finetune_right_pad_id|>"],
        "<|eot_id|>",
        None,
        "<|finetune_right_pad_id|>",
    ),
    "Llama 3": (
        LLAMA3,
        [*LLAMA3_TOKENS, "<|reserved_special_token_7|>"],
        "<|eot_id|>",
        None,
        "<|reserved_special_token_7|>",
    ),
    "nothing reserved": (LLAMA3, LLAMA3_TOKENS, "<|eot_id|>", None, NEW),
    "the end of a turn pads": (LLAMA3, LLAMA3_TOKENS, "<|eot_id|>", "<|eot_id|>", NEW),
    "so in ChatML": (CHATML, CHATML_TOKENS, "<|im_end|>", "<|im_end|>", NEW),
    "Qwen": (CHATML, CHATML_TOKENS, "<|im_end|>", "<|endoftext|>", "<|endoftext|>"),
    "what is never unknown pads": (CHATML, [*CHATML_TOKENS, "<unk>"], "<|im_end|>", "<unk>", "<unk>"),
    "text pads": (CHATML, CHATML_TOKENS, "<|im_end|>", "!", NEW),
}
CONVERSATIONS = [
    [
        {"role": "user", "content": "go to the ball"},
        {"role": "assistant", "content": "Action: go"},
        {"role": "user", "content": "you are there!"},
    ],
    [{"role": "user", "content": "open the box!"}],
]


def read_by_trl(model: PreTrainedModel, rows: torch.Tensor, pad: int) -> list[float]:
    """As `trl.experimental.utils.get_reward`: no token that pads is seen, and the last before the first is read."""
    seen = rows != pad
    hidden = model.base_model(
        input_ids=rows.masked_fill(~seen, 0), attention_mask=seen, position_ids=seen.cumsum(1) - seen.long()
    ).last_hidden_state
    ends = (~seen).int().argmax(1) - 1
    return model.score(hidden)[torch.arange(len(rows)), ends, 0].tolist()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_state_has_one_value(tmp_path: Path, name: str) -> None:
    *given, padding = TOKENIZERS[name]
    write_policy(tmp_path / "policy", *given)
    build(tmp_path / "policy", tmp_path / "reward")
    draw_head(tmp_path / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "reward")
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == (padding, model.config.pad_token_id)
    before, after = (load_file(tmp_path / each / "model.safetensors") for each in ("policy", "reward"))
    same, embeddings = before["model.embed_tokens.weight"], after["model.embed_tokens.weight"]
    assert torch.equal(same, embeddings[: len(same)]) and len(embeddings) == len(same) + (padding == NEW)

    states = [Renderer.from_pretrained(tmp_path / "reward", 512).ids(each) for each in CONVERSATIONS]
    assert states == [Renderer.from_pretrained(tmp_path / "policy", 512).ids(each) for each in CONVERSATIONS]
    with torch.no_grad():
        hidden = [model.base_model(torch.tensor([ids])).last_hidden_state[0] for ids in states]
        values = [(each[-1] @ model.score.weight[0]).item() for each in hidden]
        ahead = [(each[-2] @ model.score.weight[0]).item() for each in hidden]
        assert min(abs(value - other) for value, other in zip(values, ahead, strict=True)) > 1e-2
        left, right = (
            tokenizer.apply_chat_template(
                CONVERSATIONS,
                padding=True,
                return_tensors="pt",
                return_dict=True,
                tokenizer_kwargs={"padding_side": side},
            )
            for side in ("left", "right")
        )
        assert left["input_ids"][1, 0] == right["input_ids"][1, -1] == tokenizer.pad_token_id
        ends = [[len(ids) - 1] for ids in states]
        trained = collate(
            Sequences.of(zip(states, ends, [[0.0], [0.0]], strict=True), np.float32), [0, 1], torch.device("cpu")
        )
        one_more = torch.nn.functional.pad(right["input_ids"], (0, 1), value=tokenizer.pad_token_id)
        readings = {
            "alone": raw_values(model, states),
            "padded on the left": model(**left).logits[:, 0].tolist(),
            "padded on the right": model(**right).logits[:, 0].tolist(),
            "TRL": read_by_trl(model, one_more, tokenizer.pad_token_id),
            "training": ValueSquaredError(model)(trained.ids, trained.flat, None).tolist(),
        }
    assert readings == {reader: pytest.approx(values, abs=1e-5) for reader in readings}
    assert verify(tmp_path / "reward", states, values) < 1e-5
    check_padding(tmp_path / "reward", np.concatenate(states))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_export_that_is_read_at_another_token_is_refused_whatever_the_tolerance(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    write_policy(tmp_path / "policy", LLAMA3, LLAMA3_TOKENS, "<|eot_id|>", None)
    build(tmp_path / "policy", tmp_path / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward", dtype=dtype)
    torch.nn.init.normal_(model.score.weight, std=1e-3)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "reward")
    model.config.pad_token_id = tokenizer.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    states = [Renderer.from_pretrained(tmp_path / "reward", 512).ids(each) for each in CONVERSATIONS]
    with pytest.raises(ModelError, match="elsewhere than at their last token"):
        verify(tmp_path / "reward", states, raw_values(model.eval(), states))
    with pytest.raises(ModelError, match="with which states are written"):
        check_padding(tmp_path / "reward", np.concatenate(states))


def test_what_unknown_text_becomes_is_no_padding() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "go": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<unk>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHATML
    assert choose(tokenizer) == tokenizer.convert_tokens_to_ids(NEW) == 4


def test_an_export_whose_tokenizer_pads_otherwise_is_refused(tmp_path: Path) -> None:
    write_policy(tmp_path / "policy", CHATML, CHATML_TOKENS, "<|im_end|>", "<|endoftext|>")
    build(tmp_path / "policy", tmp_path / "reward")
    config = json.loads((tmp_path / "reward" / "config.json").read_text())
    (tmp_path / "reward" / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    with pytest.raises(ModelError, match="its tokenizer's pad_token_id"):
        verify(tmp_path / "reward", [[1, 2]], [0.0])

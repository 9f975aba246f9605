"""The padding token of a reward model, which no state may hold.

transformers reads the value of a row at its rightmost token that is no padding, and TRL masks every token that is.
Where the token that ends a turn pads too, as is usual for policies, both read a value that nobody trained.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentrm.config.schema import Representation
from agentrm.rendering.renderer import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NEW = "<|agentrm_pad|>"

# Llama 3.1 has <|finetune_right_pad_id|>, and many vocabularies hold tokens that nothing uses.
_RESERVED = re.compile(r"^\W*(finetune_right_)?pad|reserved|unused|place.?holder", re.IGNORECASE)

# No vocabulary has all of these whole: one without bytes reads some as unknown.
_RARE = "\U000e0041 \U0001f701 \ue000 \u1242 \u9f98"


def choose(tokenizer: PreTrainedTokenizerBase) -> int:
    """Make the tokenizer's padding one that no conversation holds, and return its id: its own token if that is such,
    else one that the vocabulary reserves, else a new one. Raises ModelError as `Renderer` does.
    """
    special = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    reserved = sorted(filter(_RESERVED.search, special), key=lambda token: ("pad" not in token.lower(), special[token]))
    used = _used(tokenizer)
    named = (token for token in (tokenizer.pad_token, *reserved) if token in special)
    tokenizer.pad_token = next((token for token in named if special[token] not in used), None)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": _NEW})
    return tokenizer.pad_token_id


def read_at(ids: Sequence[int], pad: int | None) -> int:
    """The index of the token at which transformers reads the value of a row whose config.json names `pad`."""
    return next((place for place in range(len(ids) - 1, -1, -1) if ids[place] != pad), 0)


def _used(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that texts begin or end with, that the chat template writes, and that unknown text becomes within turns,
    and the padding's own.
    """
    # A base that is a reward model may have a template that counts.
    renderer = Renderer(tokenizer, sys.maxsize, Representation(action_count=True))
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.cls_token_id}
    written = {
        id for id, token in tokenizer.added_tokens_decoder.items() if token.content in tokenizer.get_chat_template()
    }
    said = f"{_RARE} {tokenizer.pad_token} a{tokenizer.pad_token}"
    turns = [{"role": ("user", "assistant")[number % 2], "content": said} for number in range(5)]
    return ends | written | set(renderer.render(turns).ids)

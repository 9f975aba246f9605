"""Rows that several ranks share, each a stretch of their tokens: DeepSpeed's Ulysses.

All but attention works on a token at a time. For attention the ranks exchange stretches for heads, so that each sees
whole rows with some of the heads. For DeepSpeed every rank is one of its data-parallel ranks all the same: the loss of
a row is the sum of those of its stretches.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from agentrm.core.errors import UserError
from agentrm.data.sequences import Batch
from agentrm.training.zero import connect

_NAME = "ulysses"


def share_rows(model: PreTrainedModel, ranks: int) -> None:
    """Let the model's attention work on rows of which each of `ranks` neighbouring ranks holds a stretch. All ranks
    must call this. Raises UserError where the model's heads cannot be shared so.
    """
    from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

    connect()
    group, _ = distributed.new_subgroups(group_size=ranks)
    text = model.config.get_text_config()
    heads = text.num_attention_heads

    @cache
    def attention(rows: int) -> UlyssesSPAttentionHF:
        return UlyssesSPAttentionHF(
            sdpa_attention_forward,
            batch_size=rows,
            attn_head_count=heads,
            attn_head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
            kv_head_count=getattr(text, "num_key_value_heads", None) or heads,
            num_hidden_layers=text.num_hidden_layers,
            process_group=group,
            seq_length_is_variable=True,
        )

    try:
        attention(1)
    except ValueError as error:
        raise UserError(f"sequence_parallel={ranks} does not suit the model: {error}") from error

    def attend(module: torch.nn.Module, query: torch.Tensor, *others: Any, **settings: Any) -> Any:
        return attention(len(query))(module, query, *others, **settings)

    ALL_ATTENTION_FUNCTIONS.register(_NAME, attend)
    model.set_attn_implementation(_NAME)


def stretch(batch: Batch, number: int, ranks: int) -> tuple[Batch, np.ndarray]:
    """The part of a micro-batch that rank `number` of the `ranks` that share it works on, and the places of its labels
    among the batch's. Rows are filled up to a length that all have the same part of.
    """
    rows, length = batch.ids.shape
    width = -(-length // ranks)
    first = number * width
    filled = functional.pad(batch.ids, (0, ranks * width - length))
    row, column = batch.flat // length, batch.flat % length
    own = (column >= first) & (column < first + width)
    positions = torch.arange(first, first + width, device=batch.ids.device).expand(rows, -1)
    part = replace(
        batch,
        ids=filled[:, first : first + width].contiguous(),
        flat=row[own] * width + column[own] - first,
        labels=batch.labels[own],
        weights=None if batch.weights is None else batch.weights[own],
        positions=positions,
    )
    return part, own.nonzero().squeeze(1).cpu().numpy()

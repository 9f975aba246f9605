"""Small reward models with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from agentrm.config.schema import Model, Representation, Scratch
from agentrm.models.explicit import build
from agentrm.models.initial import prepare


def write_reward_model(path: Path, texts: Sequence[str], context: int) -> None:
    """An explicit one that counts actions, whose tokenizer is made from `texts`, at `path`; what it is made from lies
    beside it.
    """
    base = path.with_name(f"{path.name}-base")
    model = Model(source="scratch", scratch=Scratch(vocabulary=320, hidden=64, layers=2, heads=2), context=context)
    prepare(model, texts, 0, base)
    build(base, path, Representation(action_count=True))
    torch.manual_seed(0)
    reward = AutoModelForSequenceClassification.from_pretrained(path)
    # The untrained head is zero.
    torch.nn.init.normal_(reward.score.weight, std=1.0)
    reward.save_pretrained(path)

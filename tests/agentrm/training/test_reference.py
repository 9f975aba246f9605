"""The reference's log-probabilities against plain transformers, and stored for a resumed fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from agentrm.config.schema import Train
from agentrm.data.sequences import Sequences
from agentrm.training.losses import LogRatioError
from agentrm.training.reference import with_reference

CPU = torch.device("cpu")
TRAINING = Train(tokens_per_batch=16)
pytestmark = pytest.mark.usefixtures("one_rank")

CONFIG = LlamaConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
)
ROWS = [[3, 9, 27, 31, 43, 29], [7, 8], [5, 6, 40, 41]]
WRITTEN = [[False, True, True, False, False, True], [False, False], [False, False, True, False]]


def test_the_reference_is_computed_once_and_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG)
    marks = np.where(np.concatenate(WRITTEN), 0.0, np.nan)
    sequences = Sequences.of([(row, [len(row) - 1], [0.0]) for row in ROWS], np.float32, reference=marks)
    objective = LogRatioError(model, 0.05, False)
    made = with_reference(objective, sequences, TRAINING, CPU, tmp_path / "reference.npy")
    with torch.no_grad():
        logs = [model(torch.tensor([row])).logits[0].log_softmax(-1) for row in ROWS]
    expected = [
        logs[row][place - 1, ROWS[row][place]].item() if written else np.nan
        for row, marked in enumerate(WRITTEN)
        for place, written in enumerate(marked)
    ]
    assert made.reference == pytest.approx(expected, abs=1e-5, nan_ok=True)
    # A resumed fit has other weights by then; it must read what was stored.
    torch.nn.init.zeros_(model.lm_head.weight)
    again = with_reference(objective, sequences, TRAINING, CPU, tmp_path / "reference.npy")
    assert np.array_equal(again.reference, made.reference, equal_nan=True)

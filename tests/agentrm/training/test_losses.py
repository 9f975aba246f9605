from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from agentrm.training.losses import Objective, TokenCrossEntropy, ValueSquaredError
from agentrm.training.sequences import Sequences, collate

CPU = torch.device("cpu")
CONFIG = LlamaConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
    pad_token_id=0,
    num_labels=1,
    problem_type="regression",
)
ROWS = [list(range(3, 20)), [7, 8, 9], [40, 3, 5, 22, 1, 1, 30]]


@pytest.fixture
def policy() -> TokenCrossEntropy:
    torch.manual_seed(0)
    return TokenCrossEntropy(LlamaForCausalLM(CONFIG))


@pytest.fixture
def reward_model() -> ValueSquaredError:
    torch.manual_seed(0)
    return ValueSquaredError(LlamaForSequenceClassification(CONFIG))


def summed(objective: Objective, sequences: Sequences, members: list[int]) -> torch.Tensor:
    batch = collate(sequences, members, CPU)
    return objective(batch.ids, batch.flat, batch.labels)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary(policy: TokenCrossEntropy) -> None:
    torch.nn.init.zeros_(policy.model.lm_head.weight)
    sequences = Sequences.of([(ROWS[0], [2, 5, 6], [4, 4, 9])], np.int64)
    assert summed(policy, sequences, [0]).item() == pytest.approx(3 * math.log(50), rel=1e-6)


def test_cross_entropy_is_that_of_transformers_on_single_sequences(policy: TokenCrossEntropy) -> None:
    positions = [[1, 4, 5], [0], [2, 3]]
    labels = [[row[p + 1] for p in where] for row, where in zip(ROWS, positions, strict=True)]
    sequences = Sequences.of(zip(ROWS, positions, labels, strict=True), np.int64)
    expected = torch.zeros(())
    for row, where in zip(ROWS, positions, strict=True):
        masked = [token if index - 1 in where else -100 for index, token in enumerate(row)]
        expected = expected + len(where) * policy.model(torch.tensor([row]), labels=torch.tensor([masked])).loss
    loss = summed(policy, sequences, [0, 1, 2])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)
    gradient = torch.autograd.grad(loss, list(policy.parameters()))
    for mine, theirs in zip(gradient, torch.autograd.grad(expected, list(policy.parameters())), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


def test_squared_error_computed_by_hand(reward_model: ValueSquaredError) -> None:
    torch.nn.init.zeros_(reward_model.model.score.weight)
    sequences = Sequences.of([(ROWS[0], [1, 3], [0.5, 1.0]), (ROWS[1], [2], [0.25])], np.float32)
    assert summed(reward_model, sequences, [0, 1]).item() == pytest.approx(0.25 + 1.0 + 0.0625)


def test_values_are_those_of_each_prefix_alone(reward_model: ValueSquaredError) -> None:
    sequences = Sequences.of([(row, range(len(row)), [0.0] * len(row)) for row in ROWS], np.float32)
    batch = collate(sequences, [2, 0, 1], CPU)
    values = reward_model(batch.ids, batch.flat, None).tolist()
    prefixes = [ROWS[row][: end + 1] for row in (2, 0, 1) for end in range(len(ROWS[row]))]
    alone = [reward_model.model(torch.tensor([prefix])).logits.item() for prefix in prefixes]
    assert values == pytest.approx(alone, abs=1e-4)
    assert np.ptp(alone) > 1e-2


def test_gradients_reach_the_whole_model(reward_model: ValueSquaredError) -> None:
    sequences = Sequences.of([(ROWS[0], [4, 9], [0.0, 1.0])], np.float32)
    summed(reward_model, sequences, [0]).backward()
    assert all(parameter.grad is not None for parameter in reward_model.parameters())


def test_collate_pads_on_the_right_and_counts_real_tokens() -> None:
    sequences = Sequences.of([([5, 6, 7], [1], [8]), ([9], [0], [4])], np.int64)
    batch = collate(sequences, [1, 0], CPU)
    assert batch.ids.tolist() == [[9, 0, 0], [5, 6, 7]]
    assert batch.flat.tolist() == [0, 4]
    assert batch.labels.tolist() == [4, 8]
    assert batch.tokens == 4

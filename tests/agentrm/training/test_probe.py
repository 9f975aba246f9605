"""The head's closed form against the normal equations, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from agentrm.config.schema import RewardTraining
from agentrm.training.losses import ValueSquaredError
from agentrm.training.probe import fit_head
from agentrm.training.sequences import Sequences, collate

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_rank")

CONFIG = LlamaConfig(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    pad_token_id=0,
    num_labels=1,
)


def data(weighted: bool, bundled: bool) -> Sequences:
    random = np.random.default_rng(0)
    rows = [(random.integers(1, 50, 12), [3, 7, 11], random.random(3)) for _ in range(20)]
    return Sequences.of(
        rows,
        np.float32,
        weights=random.integers(1, 5, 60).astype(float) if weighted else None,
        bundles=np.repeat(np.arange(10), 2) if bundled else None,
    )


@pytest.mark.parametrize(("weighted", "contrast"), [(False, 0.0), (True, 0.0), (True, 0.9)])
def test_the_head_is_the_ridge_regression(weighted: bool, contrast: float) -> None:
    torch.manual_seed(0)
    objective = ValueSquaredError(LlamaForSequenceClassification(CONFIG), contrast)
    sequences = data(weighted, contrast > 0)
    before = {name: value.clone() for name, value in objective.model.base_model.named_parameters()}
    loss = fit_head(objective, sequences, RewardTraining(tokens_per_batch=24), CPU)
    assert all(torch.equal(before[name], value) for name, value in objective.model.base_model.named_parameters())
    batch = collate(sequences, range(20), CPU)
    with torch.no_grad():
        x = objective.features(batch.ids, batch.flat).double().numpy()
    y, w = sequences.labels.astype(float), np.ones(60) if sequences.weights is None else sequences.weights.astype(float)
    for tree in np.split(np.arange(60), 10) if contrast else []:
        x[tree] -= contrast * np.average(x[tree], axis=0, weights=w[tree])
        y[tree] -= contrast * np.average(y[tree], weights=w[tree])
    gram = (x * w[:, None]).T @ x
    solution = np.linalg.solve(gram + 0.01 * np.trace(gram) / 16 * np.eye(16), (x * w[:, None]).T @ y)
    assert objective.model.score.weight.detach().numpy()[0] == pytest.approx(solution, abs=1e-4)
    assert loss == pytest.approx(np.mean(w * (x @ solution - y) ** 2), rel=1e-4)
    # The loss that training would start from.
    with torch.no_grad():
        assert objective(*batch.inputs).item() / 60 == pytest.approx(loss, rel=1e-4)

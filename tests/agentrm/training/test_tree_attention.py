from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, MistralConfig

from agentrm.errors import UserError
from agentrm.training.losses import ValueSquaredError
from agentrm.training.sequences import Sequences, collate
from agentrm.training.tree_attention import check, depths, mask, merged

PATHS = [[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 6, 7], [8, 9]]
WHERE = [[3], [2, 1], [4], [0]]
BUNDLES = np.array([0, 0, 0, 1])


def sequences(paths: list[list[int]] = PATHS, where: list[list[int]] = WHERE) -> Sequences:
    """Labels are numbered in order, weights too."""
    ends = np.cumsum([0, *map(len, where)])
    labels = [np.arange(start, end) for start, end in pairwise(ends)]
    weights = np.arange(1.0, ends[-1] + 1)
    rows = zip(paths, where, labels, strict=True)
    return Sequences.of(rows, np.float32, weights=weights, bundles=BUNDLES)


def test_shared_beginnings_come_once_in_depth_first_order() -> None:
    found = merged(sequences(), 100)
    assert found.ids.tolist() == [1, 2, 3, 4, 6, 7, 5, 8, 9]
    assert found.starts.tolist() == [0, 7, 9] and found.bundles.tolist() == [0, 1]
    seen = [mask(torch.from_numpy(ends)[None]) for ends in np.split(found.ends, found.starts[1:-1])]
    assert torch.cat([depths(each)[0] for each in seen]).tolist() == [0, 1, 2, 3, 3, 4, 2, 0, 1]
    assert found.ends.tolist() == [7, 7, 6, 4, 6, 6, 7, 2, 2]
    assert found.labels.tolist() == [0, 3, 1, 2, 4]
    assert found.positions.tolist() == [3, 5, 6, 1, 0]
    assert found.label_starts.tolist() == [0, 4, 5]
    assert (found.weights / found.weights[0]).tolist() == pytest.approx([1, 4, 2, 3, 5])


def test_a_path_without_room_begins_at_the_root_again() -> None:
    found = merged(sequences(), 6)
    assert [row.tolist() for row in np.split(found.ids, found.starts[1:-1])] == [
        [1, 2, 3, 4, 6, 7],
        [1, 2, 5],
        [8, 9],
    ]
    assert found.bundles.tolist() == [0, 0, 1]
    assert len(merged(sequences(), 1).starts) == 5, "a path that is longer than the budget is a row of its own"


def test_a_token_sees_its_ancestors_alone() -> None:
    found = merged(sequences(), 100)
    batch = collate(found, [0, 1], torch.device("cpu"))
    assert batch.ends.shape == (2, 7)
    seen = mask(batch.ends)
    assert seen.shape == (2, 1, 7, 7)
    ancestors = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 2, 4, 5], [0, 1, 6]]
    assert [row.nonzero().flatten().tolist() for row in seen[0, 0]] == ancestors
    assert [row.nonzero().flatten().tolist() for row in seen[1, 0]] == [[0], [0, 1], [2], [3], [4], [5], [6]]


def test_the_loss_and_its_gradient_are_those_of_the_paths() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    shape = LlamaConfig(
        vocab_size=12,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=0,
    )
    model = AutoModelForSequenceClassification.from_config(shape)
    torch.nn.init.normal_(model.score.weight)
    paths = [[*random.integers(1, 3, 3 * length).tolist()] for length in random.integers(1, 8, 40)]
    where = [[len(path) - 1, len(path) // 2] for path in paths]
    ends = np.arange(0, 2 * len(paths) + 1, 2)
    values = random.normal(size=2 * len(paths))
    rows = [(path, at, values[start:end]) for path, at, (start, end) in zip(paths, where, pairwise(ends), strict=True)]
    given = Sequences.of(rows, np.float32, weights=random.uniform(1, 2, len(values)), bundles=np.arange(40) % 3)
    whole = merged(given, 60)
    assert len(whole.ids) < len(given.ids) * 0.9
    assert np.diff(whole.starts).max() <= 60
    results = []
    for data in (given, whole):
        objective = ValueSquaredError(model, contrast=0.0)
        objective.zero_grad()
        loss = objective(*collate(data, range(len(data)), torch.device("cpu")).inputs)
        loss.backward()
        results.append((loss.item(), [parameter.grad.clone() for parameter in model.parameters()]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for ours, theirs in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_a_model_with_windows_is_refused(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path)
    check(tmp_path)
    MistralConfig(sliding_window=64).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="mistral has sliding_attention by sdpa: set it to false"):
        check(tmp_path)

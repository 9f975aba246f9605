from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from agentrm.config.schema import Model, Scratch
from agentrm.data.sequences import Sequences, collate
from agentrm.models.initial import prepare
from agentrm.training.losses import (
    BradleyTerry,
    LogRatioError,
    Objective,
    TokenCrossEntropy,
    ValueCrossEntropy,
    ValueSquaredError,
)

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
    return objective(*batch.inputs)


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


def test_weights_scale_each_squared_error(reward_model: ValueSquaredError) -> None:
    torch.nn.init.zeros_(reward_model.model.score.weight)
    rows = [(ROWS[0], [1, 3], [0.5, 1.0]), (ROWS[1], [2], [2.0])]
    # Weights 2, 0, 4 have mean 2, so they count as 1, 0 and 2.
    sequences = Sequences.of(rows, np.float32, weights=np.array([2.0, 0.0, 4.0]))
    assert summed(reward_model, sequences, [0, 1]).item() == pytest.approx(0.25 + 2 * 4.0)
    assert summed(reward_model, sequences, [1]).item() == pytest.approx(2 * 4.0)


VALUES = [2.0, -1.0, 0.5]
"""What `valued` gives at the ends of ROWS."""


def valued(kind: type[Objective]) -> Objective:
    """An objective whose outputs at the last tokens of ROWS are VALUES."""
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(CONFIG).double()
    with torch.no_grad():
        ends = torch.stack([model.base_model(torch.tensor([row])).last_hidden_state[0, -1] for row in ROWS])
        model.score.weight.copy_(torch.linalg.lstsq(ends, torch.tensor(VALUES).double()[:, None]).solution.T)
    return kind(model)


def test_cross_entropy_computed_by_hand() -> None:
    objective = valued(ValueCrossEntropy)
    sequences = Sequences.of(
        [(row, [len(row) - 1], [label]) for row, label in zip(ROWS, [1.0, 0.0, 0.25], strict=True)], np.float32
    )
    # -log sigmoid(2), -log(1 - sigmoid(-1)), and both for a label between.
    by_hand = [
        math.log1p(math.exp(-2)),
        math.log1p(math.exp(-1)),
        0.25 * math.log1p(math.exp(-0.5)) + 0.75 * math.log1p(math.exp(0.5)),
    ]
    assert summed(objective, sequences, [2, 0, 1]).item() == pytest.approx(sum(by_hand), abs=1e-5)
    weights = np.array([1.0, 2.0, 3.0])
    weighted = Sequences.of(
        [(row, [len(row) - 1], [label]) for row, label in zip(ROWS, [1.0, 0.0, 0.25], strict=True)],
        np.float32,
        weights=weights,
    )
    expected = np.array(by_hand) @ weights / 2
    assert summed(objective, weighted, [2, 0, 1]).item() == pytest.approx(expected, abs=1e-5)


PAIRS = np.array([[0, 1], [0, 2], [1, 2]])
UNITS = np.zeros(3, np.int64)


def test_bradley_terry_computed_by_hand() -> None:
    objective = valued(BradleyTerry)
    rows = [(row, [len(row) - 1], [0.0]) for row in ROWS]
    sequences = Sequences.of(rows, np.float32, pairs=PAIRS, units=UNITS)
    # Differences 3, 1.5 and -1.5, the last of a pair that is ordered wrongly.
    by_hand = [math.log1p(math.exp(-difference)) for difference in (3.0, 1.5, -1.5)]
    for members in ([0, 1, 2], [2, 0, 1]):
        assert summed(objective, sequences, members).item() == pytest.approx(sum(by_hand), abs=1e-5)
    weighted = Sequences.of(rows, np.float32, weights=np.array([1.0, 2.0, 3.0]), pairs=PAIRS, units=UNITS)
    expected = (by_hand[0] + 2 * by_hand[1] + 3 * by_hand[2]) / 2
    assert summed(objective, weighted, [2, 0, 1]).item() == pytest.approx(expected, abs=1e-5)
    empty = summed(objective, sequences, [])
    assert empty.item() == 0
    empty.backward()


def test_pairs_within_one_sequence_and_across_two_find_their_labels() -> None:
    rows = [(ROWS[0], [2, 5, 9], [0.0] * 3), (ROWS[1], [0, 2], [0.0] * 2), (ROWS[2], [3], [0.0])]
    # The first pair is of one sequence, the others of two.
    sequences = Sequences.of(
        rows, np.float32, pairs=np.array([[1, 2], [3, 0], [5, 4]]), units=np.array([0, 0, 0], np.int64)
    )
    assert sequences.term_starts.tolist() == [0, 1, 2, 3]
    batch = collate(sequences, [1, 2, 0], CPU)
    # Places: the second sequence's labels are 0 and 1, the third's 2, the first's 3, 4 and 5.
    assert batch.labels.tolist() == [[0, 3], [2, 1], [4, 5]]
    width = len(ROWS[0])
    assert batch.flat.tolist() == [0, 2, width + 3, 2 * width + 2, 2 * width + 5, 2 * width + 9]


def test_bradley_terry_is_the_loss_of_trls_reward_trainer(tmp_path: Path) -> None:
    # Importing it takes seconds, which the other tests need not wait for.
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    torch.manual_seed(0)
    model = LlamaForSequenceClassification(CONFIG)
    torch.nn.init.normal_(model.score.weight)
    chosen, rejected = [ROWS[0], ROWS[2], [9, 9, 4]], [ROWS[1], [3, 44, 12, 8], ROWS[0]]
    base = tmp_path / "base"
    prepare(Model(source="scratch", scratch=Scratch(vocabulary=300, hidden=64, layers=1, heads=2)), ["a"], 0, base)
    trainer = RewardTrainer(
        model,
        RewardConfig(
            output_dir=str(tmp_path / "trl"), per_device_train_batch_size=3, report_to=[], use_cpu=True, max_length=None
        ),
        train_dataset=Dataset.from_dict({"chosen_ids": chosen, "rejected_ids": rejected}),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    theirs = trainer.compute_loss(model, next(iter(trainer.get_train_dataloader())))
    rows = [(row, [len(row) - 1], [0.0]) for pair in zip(chosen, rejected, strict=True) for row in pair]
    sequences = Sequences.of(
        rows, np.float32, pairs=np.array([[0, 1], [2, 3], [4, 5]]), units=np.array([0, 0, 1, 1, 2, 2])
    )
    ours = summed(BradleyTerry(model), sequences, [4, 5, 0, 1, 2, 3]) / 3
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    parameters = list(model.parameters())
    gradients = (torch.autograd.grad(loss, parameters) for loss in (ours, theirs))
    assert all(torch.allclose(mine, other, atol=1e-5) for mine, other in zip(*gradients, strict=True))


def log_probability(policy: LlamaForCausalLM, ids: list[int], written: list[int]) -> torch.Tensor:
    """Of the tokens at the places `written`, summed, by the definition."""
    logs = policy(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum((logs[place - 1, ids[place]] for place in written), torch.zeros(()))


@pytest.mark.parametrize("cross_entropy", [False, True])
def test_the_log_ratio_is_summed_over_the_agents_tokens_so_far(cross_entropy: bool) -> None:
    torch.manual_seed(0)
    trained, base = LlamaForCausalLM(CONFIG), LlamaForCausalLM(CONFIG)
    # The agent wrote tokens 2 and 3, then 7; the labels stand at 5 and 9.
    written = [[2, 3, 7], [1]]
    reference = np.full(len(ROWS[0]) + len(ROWS[1]), np.nan)
    with torch.no_grad():
        for start, row, places in ((0, ROWS[0], written[0]), (len(ROWS[0]), ROWS[1], written[1])):
            for place in places:
                reference[start + place] = log_probability(base, row, [place])
    rows = [(ROWS[0], [1, 5, 9], [0.0, 0.5, 1.0]), (ROWS[1], [2], [0.25])]
    sequences = Sequences.of(rows, np.float32, reference=reference)
    objective = LogRatioError(trained, 0.5, cross_entropy)
    batch = collate(sequences, [1, 0], CPU)
    cases = [(ROWS[1], [1]), (ROWS[0], []), (ROWS[0], [2, 3]), (ROWS[0], [2, 3, 7])]
    expected = [0.5 * (log_probability(trained, *case) - log_probability(base, *case)).item() for case in cases]
    values = objective(batch.ids, batch.flat, None, reference=batch.reference)
    assert values.tolist() == pytest.approx(expected, abs=1e-5)
    if cross_entropy:
        logits = torch.tensor(expected)
        chances, labels = logits.sigmoid(), torch.tensor([0.25, 0.0, 0.5, 1.0])
        loss = -(labels * chances.log() + (1 - labels) * (1 - chances).log()).sum().item()
    else:
        loss = sum((value - label) ** 2 for value, label in zip(expected, [0.25, 0.0, 0.5, 1.0], strict=True))
    summed_loss = objective(*batch.inputs)
    assert summed_loss.item() == pytest.approx(loss, rel=1e-4)
    summed_loss.backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())

"""The loop with one rank: every ZeRO stage and every split into micro-batches takes the same steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from agentrm.config.schema import Lora, Training
from agentrm.core.errors import ModelError, UserError
from agentrm.data.sequences import Sequences
from agentrm.models import adapters
from agentrm.training.loop import Progress, fit
from agentrm.training.losses import BradleyTerry, ScalarHead, ValueSquaredError
from agentrm.training.packing import steps_of
from agentrm.training.schedule import learning_rate

pytestmark = pytest.mark.usefixtures("one_rank")

CONFIG = LlamaConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    pad_token_id=0,
    num_labels=1,
    problem_type="regression",
)
TRAINING = Training(
    epochs=2, learning_rate=1e-2, warmup=0.25, tokens_per_batch=16, zero_stage=0, workers=1, checkpoints=1
)
LORA = Lora(rank=4, alpha=8, dropout=0.1)
# All of length 8: any split into micro-batches pads nothing and holds whole rows.
ROWS = [([index, *range(3, 10)], [3, 7], [index / 8, 1 - index / 8]) for index in range(8)]
SEQUENCES = Sequences.of(ROWS, np.float32)


# Of rows 2k and 2k + 1, which stay together, the second has the better first label; the others are in no pair.
PAIRED = Sequences.of(
    ROWS,
    np.float32,
    pairs=np.array([[4 * unit + 2, 4 * unit] for unit in range(4)]),
    units=np.arange(8) // 2,
)


class Exported(NamedTuple):
    weights: dict[str, torch.Tensor]
    values: np.ndarray | None


def run(
    resume: Path | None = None,
    save: Path | None = None,
    sequences: Sequences = SEQUENCES,
    kind: type[ScalarHead] = ValueSquaredError,
    made: Path | None = None,
    **changes: Any,
) -> tuple[Exported, list[Progress], ScalarHead]:
    torch.manual_seed(0)
    objective = kind(LlamaForSequenceClassification(CONFIG))
    seen: list[Progress] = []
    fitted = fit(
        objective,
        sequences,
        SEQUENCES,
        Training(**vars(TRAINING) | changes),
        seed=0,
        device=torch.device("cpu"),
        resume=resume,
        checkpoint=lambda step, write: write(save) if save else None,
        record=seen.append,
    )
    with TemporaryDirectory() as directory:
        target = made or Path(directory)
        fitted.export(target)
        (weights,) = target.glob("*.safetensors")
        return Exported(load_file(weights), fitted.values), seen, objective


def test_the_first_steps_are_those_of_plain_torch() -> None:
    _, seen, _ = run(tokens_per_batch=64, epochs=1, zero_stage=2)
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(CONFIG)
    values = torch.stack([model(torch.tensor([ids[: p + 1]])).logits[0, 0] for ids, ends, _ in ROWS for p in ends])
    loss = torch.nn.functional.mse_loss(values, torch.from_numpy(SEQUENCES.labels))
    loss.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    assert len(seen) == 1
    assert seen[0].loss == pytest.approx(loss.item(), rel=1e-5)
    assert seen[0].gradient_norm == pytest.approx(norm.item(), rel=1e-4)
    assert seen[0].tokens == 64


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_an_empty_micro_batch_adds_nothing(stage: int) -> None:
    still = {"learning_rate": 1e-12, "epochs": 1, "zero_stage": stage}
    _, whole, _ = run(tokens_per_batch=64, **still)
    # Eight rows, each alone, in three steps of three.
    fitted, seen, _ = run(tokens_per_batch=8, accumulate=3, **still)
    assert [each.tokens for each in seen].count(16) == 1 and len(seen) == 3
    assert sum(each.loss * each.tokens for each in seen) / 64 == pytest.approx(whole[0].loss, rel=1e-5)
    assert fitted.values.shape == (16,)


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_stage": 1},
        {"zero_stage": 2},
        {"zero_stage": 3},
        {"tokens_per_batch": 32, "accumulate": 2},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "zero_stage": 2},
        {"gradient_checkpointing": True, "zero_stage": 3},
    ],
)
def test_stages_and_micro_batches_change_nothing(changes: dict[str, int]) -> None:
    # One step holds all rows, so that their order, which depends on the micro-batches, does not matter.
    whole = {"tokens_per_batch": 64, "epochs": 4}
    expected, curve, _ = run(**whole)
    found, seen, _ = run(**whole | changes)
    assert [progress.loss for progress in seen] == pytest.approx([progress.loss for progress in curve], abs=1e-5)
    assert found.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        assert torch.allclose(found.weights[name], weight, atol=1e-5), name


def test_the_fit_learns_and_values_the_held_out_states_with_its_last_weights() -> None:
    fitted, seen, objective = run(epochs=20)
    assert seen[-1].loss < seen[0].loss / 4
    alone = [objective.model(torch.tensor([ids[: p + 1]])).logits.item() for ids, ends, _ in ROWS for p in ends]
    assert fitted.values is not None
    assert fitted.values.tolist() == pytest.approx(alone, abs=1e-4)


def test_pairs_are_learned_and_the_split_into_micro_batches_changes_nothing() -> None:
    pairs = {"sequences": PAIRED, "kind": BradleyTerry, "epochs": 10, "tokens_per_batch": 64}
    fitted, seen, objective = run(**pairs)
    assert seen[0].loss == pytest.approx(np.log(2), abs=0.3) and seen[-1].loss < seen[0].loss / 2
    first = [objective.model(torch.tensor([ids[:4]])).logits.item() for ids, _, _ in ROWS]
    assert all(worse < better for worse, better in zip(first[::2], first[1::2], strict=True))
    # Two units in each micro-batch, then one; a step holds all.
    for changes in ({"tokens_per_batch": 32, "accumulate": 2}, {"tokens_per_batch": 8, "accumulate": 4}):
        again, curve, _ = run(**pairs | changes)
        assert [each.loss for each in curve] == pytest.approx([each.loss for each in seen], abs=1e-5)
        assert all(torch.allclose(again.weights[name], each, atol=1e-5) for name, each in fitted.weights.items())


def test_the_schedule_and_the_number_of_steps_are_as_configured() -> None:
    _, seen, _ = run()
    assert len(seen) == steps_of(SEQUENCES, TRAINING) == 8
    assert [progress.learning_rate for progress in seen] == [learning_rate(step, 8, 1e-2, 0.25) for step in range(8)]


@pytest.mark.parametrize("changes", [{}, {"lora": LORA}, {"lora": LORA, "gradient_checkpointing": True}])
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_resumed_fit_ends_with_the_same_bits(tmp_path: Path, stage: int, changes: dict[str, Any]) -> None:
    expected, _, _ = run(save=tmp_path, zero_stage=stage, **changes)
    found, seen, _ = run(resume=tmp_path, zero_stage=stage, **changes)
    assert seen[0].step == 5
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())


def test_a_diverging_fit_is_a_model_error() -> None:
    with pytest.raises(ModelError, match=r"the loss is (nan|inf) at step \d+ of 8: lower learning_rate"):
        run(learning_rate=1e30)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_lora_moves_only_what_it_adapts_and_its_export_values_as_trained(stage: int) -> None:
    fitted, seen, objective = run(epochs=10, zero_stage=stage, lora=LORA)
    assert seen[-1].loss < seen[0].loss / 2
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(CONFIG)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert fitted.weights.keys() == before.keys()
    moved = {name for name, weight in before.items() if not torch.equal(fitted.weights[name], weight)}
    assert moved == {name for name in before if "_proj" in name or name == "score.weight"}
    for name, weight in before.items():
        if "_proj" in name:
            assert torch.linalg.matrix_rank(fitted.weights[name] - weight, rtol=1e-3) <= LORA.rank
    frozen = {name: each for name, each in objective.model.named_parameters() if not each.requires_grad}
    assert {name.replace(".base_layer", "") for name in frozen} == before.keys() - {"score.weight"}
    if stage < 3:
        assert all(torch.equal(each, before[name.replace(".base_layer", "")]) for name, each in frozen.items())
    model.load_state_dict(fitted.weights)
    alone = [model(torch.tensor([ids[: p + 1]])).logits.item() for ids, ends, _ in ROWS for p in ends]
    assert fitted.values is not None
    assert fitted.values.tolist() == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("stage", [2, 3])
def test_lora_may_be_kept_in_the_form_of_peft(tmp_path: Path, stage: int) -> None:
    torch.manual_seed(0)
    base = LlamaForSequenceClassification(CONFIG)
    fitted, _, _ = run(epochs=10, zero_stage=stage, lora=replace(LORA, keep=True), made=tmp_path)
    assert all(".lora_" in name or name == adapters.HEAD for name in fitted.weights)
    model = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    alone = [model(torch.tensor([ids[: p + 1]])).logits.item() for ids, ends, _ in ROWS for p in ends]
    assert fitted.values is not None
    assert fitted.values.tolist() == pytest.approx(alone, abs=1e-4)


def test_lora_targets_that_match_nothing_are_a_user_error() -> None:
    with pytest.raises(UserError, match=r"lora\.targets is 'nothing', which names no linear layer"):
        run(lora=Lora(rank=4, targets="nothing"))


@pytest.mark.parametrize("name", ["score", "model.embed_tokens"])
def test_lora_targets_outside_the_backbones_linear_layers_are_a_user_error(name: str) -> None:
    with pytest.raises(UserError, match=f"which names {name}: it is no linear layer of the backbone"):
        run(lora=Lora(rank=4, targets=f".*q_proj|{name}"))


def test_lora_targets_choose_the_layers() -> None:
    fitted, _, _ = run(epochs=1, lora=Lora(rank=4, targets=".*q_proj"))
    torch.manual_seed(0)
    before = LlamaForSequenceClassification(CONFIG).state_dict()
    moved = {name for name, weight in before.items() if not torch.equal(fitted.weights[name], weight)}
    assert moved == {"model.layers.0.self_attn.q_proj.weight", "score.weight"}

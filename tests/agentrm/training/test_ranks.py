"""Fits of two ranks, as plain processes: models that are read and written in parts, rows that are shared, checkpoints
for another number of ranks.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, multiprocessing
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from agentrm.config.schema import Lora, Train
from agentrm.data.sequences import Sequences
from agentrm.model_directory import tensor_files
from agentrm.models import adapters
from agentrm.training import export

CONFIG = LlamaConfig(
    vocab_size=51,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    pad_token_id=0,
    num_labels=1,
    problem_type="regression",
)
# One step holds all rows, so that it is the same for any number of ranks.
TRAIN = Train(epochs=4, learning_rate=1e-2, tokens_per_batch=64, zero_stage=3, workers=2, checkpoints=1)
LENGTHS = (7, 8, 5, 8, 6, 8, 3, 8)
SEQUENCES = Sequences.of(
    (
        ([index + 1, *range(3, 2 + length)], [length // 2, length - 1], [index / 8, 1 - index / 8])
        for index, length in enumerate(LENGTHS)
    ),
    np.float32,
)
SHARED = {"sequence_parallel": 2, "tokens_per_batch": 32}


def fitted(root: Path, name: str, resume: Path | None = None, **changes: Any) -> None:
    """Fit on the ranks of the default group: `name` becomes the model, a checkpoint and what rank 0 saw beside it."""
    from agentrm.training.loading import load_objective
    from agentrm.training.loop import fit

    training = Train(**vars(TRAIN) | changes)
    objective = load_objective(root / "base", training)
    held = sum(each.numel() for each in objective.parameters())
    losses: list[float] = []
    made = fit(
        objective,
        SEQUENCES,
        SEQUENCES,
        training,
        seed=0,
        device=torch.device("cpu"),
        resume=resume,
        checkpoint=lambda step, save: save(root / f"{name}-checkpoint"),
        record=lambda progress: losses.append(progress.loss),
    )
    made.export(root / name)
    if distributed.get_rank() == 0:
        assert made.values is not None
        told = {"losses": losses, "values": made.values.tolist(), "held": held}
        (root / f"{name}.json").write_text(json.dumps(told))
    distributed.barrier()


def two(rank: int, root: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank)}
    # Several files, though the model is small.
    export._SMALLEST_BYTES = 2**14
    distributed.init_process_group("gloo", init_method=f"file://{root}/store", rank=rank, world_size=2)
    fitted(root, "whole", zero_stage=0)
    fitted(root, "parts")
    fitted(root, "resumed", resume=root / "parts-checkpoint")
    fitted(root, "adapter", lora=Lora(rank=4, keep=True))
    fitted(root, "shared", **SHARED)
    fitted(root, "shared-in-parts", **SHARED, gradient_checkpointing=True)
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(CONFIG)
    model.save_pretrained(root / "base", max_shard_size="20KB")
    multiprocessing.spawn(two, (root,), nprocs=2)
    return root


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return {name: load_file(file)[name] for name, file in tensor_files(directory).items()}


def told(root: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((root / f"{name}.json").read_text()))


def test_a_model_in_parts_learns_what_a_whole_one_does_and_comes_out_in_shards(root: Path) -> None:
    whole, parts = told(root, "whole"), told(root, "parts")
    assert whole["held"] > 10_000 and parts["held"] == 0
    assert parts["losses"] == pytest.approx(whole["losses"], abs=1e-5)
    assert parts["values"] == pytest.approx(whole["values"], abs=1e-4)
    expected, found = weights(root / "whole"), weights(root / "parts")
    assert len(set(tensor_files(root / "parts").values())) > 2
    assert expected.keys() == found.keys() == weights(root / "base").keys()
    assert all(torch.allclose(found[name], each, atol=1e-4) for name, each in expected.items())
    model = AutoModelForSequenceClassification.from_pretrained(root / "parts").eval()
    values = [model(torch.tensor([SEQUENCES.beginning(n)])).logits.item() for n in range(len(SEQUENCES.labels))]
    assert values == pytest.approx(parts["values"], abs=1e-4)


def test_adapters_of_a_model_in_parts_are_kept(root: Path) -> None:
    found = told(root, "adapter")
    assert found["losses"][-1] < found["losses"][0]
    adapters.name_base(root / "adapter", "../base")
    model = adapters.load(root / "adapter").eval()
    values = [model(torch.tensor([SEQUENCES.beginning(n)])).logits.item() for n in range(len(SEQUENCES.labels))]
    assert values == pytest.approx(found["values"], abs=1e-4)


def test_as_many_ranks_resume_to_the_same_bits(root: Path) -> None:
    assert len(told(root, "resumed")["losses"]) < len(told(root, "parts")["losses"])
    expected, found = weights(root / "parts"), weights(root / "resumed")
    assert all(torch.equal(found[name], each) for name, each in expected.items())


@pytest.mark.usefixtures("one_rank")
def test_another_number_of_ranks_resumes_to_the_same_loss(root: Path) -> None:
    fitted(root, "alone", resume=root / "parts-checkpoint")
    expected, found = told(root, "parts"), told(root, "alone")
    assert found["losses"] == pytest.approx(expected["losses"][-len(found["losses"]) :], abs=1e-5)
    assert found["values"] == pytest.approx(expected["values"], abs=1e-4)


@pytest.mark.parametrize("name", ["shared", "shared-in-parts"])
def test_rows_that_two_ranks_share_have_the_loss_of_one(root: Path, name: str) -> None:
    expected, found = told(root, "whole"), told(root, name)
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    assert found["values"] == pytest.approx(expected["values"], abs=1e-4)

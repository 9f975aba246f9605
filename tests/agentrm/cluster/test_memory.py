"""Memory before anything is started: shapes as the models have them, sums as computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from agentrm.cluster.description import GIB
from agentrm.cluster.memory import Shape, of_engine, of_loading, of_preparing, of_training, shape
from agentrm.config.schema import Engine, Lora, Model, RewardKind, Scratch, Train, Training
from agentrm.core.errors import UserError
from agentrm.models.initial import prepare

LLAMA = Model(source="meta-llama/Meta-Llama-3-8B-Instruct")
TOY = Shape(
    parameters=10**9, trained=10**9, largest=10**8, layers=10, hidden=1000, intermediate=4000, cached=2000, vocabulary=0
)


def test_the_published_sizes() -> None:
    found = shape(LLAMA, LLAMA.source, scalar_head=False)
    assert found.parameters == found.trained == 8_030_261_248
    assert found.largest == 128256 * 4096
    assert found.cached == 2 * 32 * 8 * 128
    assert shape(LLAMA, "meta-llama/Meta-Llama-3-70B-Instruct", scalar_head=False).parameters == 70_553_706_496
    assert shape(LLAMA, "smollm2", scalar_head=False).parameters == 134_515_008


def test_a_scalar_head_has_no_vocabulary_and_adapters_are_all_that_is_trained() -> None:
    found = shape(LLAMA, LLAMA.source, scalar_head=True, lora=Lora(rank=16))
    assert found.parameters == 8_030_261_248 - 128256 * 4096 + 4096
    # 16 numbers for each input and each output of the seven linear layers, and the head.
    linear = (4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3
    assert found.trained == 16 * linear * 32 + 4096
    assert found.vocabulary == 0


def test_a_model_on_disk_has_the_shape_that_was_foreseen(tmp_path: Path) -> None:
    model = Model(source="scratch", scratch=Scratch(vocabulary=320, hidden=64, layers=2, heads=2), context=128)
    prepare(model, ["go to the red ball " * 30, "".join(map(chr, range(32, 1000)))], 0, tmp_path)
    made = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert made.config.vocab_size == 320
    for source in ("scratch", str(tmp_path)):
        assert shape(model, source, scalar_head=False).parameters == made.num_parameters()


@pytest.mark.parametrize("config", [None, "[]", "null", "{"])
def test_a_model_that_cannot_be_read_is_named(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=str(tmp_path)):
        shape(LLAMA, str(tmp_path), scalar_head=False)


# Buckets are 2 times 5e8 numbers, live parameters 1e9 at most.
@pytest.mark.parametrize(
    ("stage", "workers", "dtype", "gigabytes"),
    [
        (0, 4, "bfloat16", 20),
        (2, 4, "bfloat16", 2 + 18 / 4 + 2),
        (3, 4, "bfloat16", 18 / 4 + 0.4 + 2 + 2),
        (3, 4, "float32", 18 / 4 + 2 / 4 + 0.4 + 4 + 4),
    ],
)
def test_a_fit(stage: int, workers: int, dtype: str, gigabytes: float) -> None:
    training = Training(
        zero_stage=stage, workers=workers, dtype=dtype, tokens_per_batch=1000, gradient_checkpointing=True
    )
    width = 4 if dtype == "float32" else 2
    activations = 1000 * width * (10 * 1000 + 13 * 1000 + 4 * 4000)
    assert (of_training(TOY, training, 500) - 3) * GIB == pytest.approx(gigabytes * 1e9 + activations)


def test_a_fit_that_keeps_activations_or_has_one_long_sequence_takes_more() -> None:
    training = Training(zero_stage=3, workers=4, dtype="bfloat16", tokens_per_batch=1000, gradient_checkpointing=True)
    kept = Training(zero_stage=3, workers=4, dtype="bfloat16", tokens_per_batch=1000)
    assert of_training(TOY, kept, 500) > of_training(TOY, training, 500) < of_training(TOY, training, 2000)


def test_a_worker_of_stage_3_holds_its_part_and_others_the_whole_model() -> None:
    whole = Shape(10**12, 10**12, 10**9, 1, 1, 1, 1, 0)
    parts = Train(zero_stage=3, workers=1000, dtype="bfloat16", tokens_per_batch=1, gradient_checkpointing=True)
    assert of_loading(whole, parts) == pytest.approx((4e9 + 4e9) / GIB)
    assert of_training(whole, parts, 1) < 2e12 / GIB
    for other in (replace(parts, zero_stage=2), replace(parts, kind=RewardKind.implicit)):
        assert of_loading(whole, other) == of_preparing(whole) == pytest.approx(4e12 / GIB)
        assert of_training(whole, other, 1) > 2e12 / GIB


def test_rows_that_workers_share_and_adapters_take_less() -> None:
    training = Training(zero_stage=3, workers=4, tokens_per_batch=1000)
    assert of_training(TOY, replace(training, sequence_parallel=4), 4000) == of_training(TOY, training, 1000)
    engine = Engine(dtype="bfloat16", gpus=1)
    thin = replace(TOY, trained=10**6)
    assert (of_engine(thin, engine, 500, 3) - of_engine(thin, engine, 500)) * GIB == pytest.approx(6e6)


def test_an_engine_is_divided_by_tensor_parallelism() -> None:
    engine = Engine(dtype="bfloat16", gpus=2, tensor_parallel=2)
    numbers = 10**9 + 2000 * 500 + 3 * 4000 * 16384
    assert of_engine(TOY, engine, 500) == pytest.approx(numbers * 2 / 2 / GIB + 1.5)

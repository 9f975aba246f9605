"""DeepSpeed under a process group that already exists: set-up, and the whole weights out of any ZeRO stage."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

from agentrm.config.schema import Training
from agentrm.training.importing import deepspeed
from agentrm.training.losses import Objective


def connect() -> None:
    """Let DeepSpeed use the default process group, which must be initialised, with gloo or nccl."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # This op is a C++ all-reduce for inference, compiled for minutes on first use; training goes through gloo or nccl.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(distributed.get_backend(), dist_init_required=False, verbose=False)


def settings(training: Training) -> dict[str, Any]:
    """DeepSpeed's configuration of a fit, which is let to `connect`."""
    connect()
    return {
        # The micro-batches vary in rows, and this value only feeds DeepSpeed's own accounting.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": training.accumulate,
        "gradient_clipping": training.gradient_clipping,
        "bf16": {"enabled": training.dtype == "bfloat16"},
        "zero_optimization": {"stage": training.zero_stage, "overlap_comm": distributed.get_backend() == "nccl"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**62,
    }


def initialize(objective: Objective, training: Training, universal: bool = False) -> deepspeed.DeepSpeedEngine:
    """Wrap an objective; `universal`: it will load a checkpoint of another number of ranks, see `checkpoints`."""
    config = settings(training)
    if universal:
        config["checkpoint"] = {"load_universal": True}
    if training.zero_stage == 3:
        # DeepSpeed's own sizes are billions of numbers, with which what is partitioned is soon whole on every rank.
        largest = max(math.prod(_dimensions(p)) for p in objective.parameters())
        sizes = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_max_live_parameters")
        config["zero_optimization"] |= {**dict.fromkeys(sizes, largest), "stage3_max_reuse_distance": 0}
    if training.gradient_checkpointing:
        objective.model.gradient_checkpointing_enable()
    trained = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if len(_dimensions(p)) > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if len(_dimensions(p)) <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        # Adapters are matrices only, and DeepSpeed takes no group without parameters.
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        fused=True,
    )
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, dist_init_required=False, config=config)
    return engine


def _dimensions(parameter: torch.Tensor) -> tuple[int, ...]:
    # A parameter that is partitioned already is empty here.
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def full_weights(engine: deepspeed.DeepSpeedEngine, frozen: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """The model's parameters by name, one after another, without the `frozen` ones if they are not wanted: each is
    whole on every rank until the next is asked for. All ranks must go through them together.
    """
    for name, parameter in engine.module.model.named_parameters():
        if not (frozen or parameter.requires_grad):
            continue
        # None where nothing is partitioned (stage 0 in float32), and of frozen parameters.
        master = deepspeed.utils.safe_get_full_fp32_param(parameter)
        with deepspeed.zero.GatheredParameters([parameter], enabled=master is None):
            yield name, (parameter if master is None else master).detach()


def sizes_of(model: torch.nn.Module) -> dict[str, int]:
    """How many numbers each parameter has on all ranks together, in the order of `full_weights`."""
    return {name: getattr(parameter, "ds_numel", parameter.numel()) for name, parameter in model.named_parameters()}

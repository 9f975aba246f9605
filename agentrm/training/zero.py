"""DeepSpeed under a process group that already exists: set-up, and the full weights out of any ZeRO stage."""

from __future__ import annotations

import logging

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param

from agentrm.config.schema import Training
from agentrm.training.losses import Objective


def initialize(objective: Objective, training: Training, backend: str) -> deepspeed.DeepSpeedEngine:
    """Wrap an objective; the default process group must be initialised with `backend` (gloo or nccl)."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # This op is a C++ all-reduce for inference, compiled for minutes on first use; training goes through gloo or nccl.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(backend, dist_init_required=False, verbose=False)
    if training.gradient_checkpointing:
        objective.model.gradient_checkpointing_enable()
    trained = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        # Adapters are matrices only, and DeepSpeed takes no group without parameters.
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        fused=True,
    )
    engine, *_ = deepspeed.initialize(
        model=objective,
        optimizer=optimizer,
        dist_init_required=False,
        config={
            # The micro-batches vary in rows, and this value only feeds DeepSpeed's own accounting.
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": training.accumulate,
            "gradient_clipping": training.gradient_clipping,
            "bf16": {"enabled": training.dtype == "bfloat16"},
            "zero_optimization": {"stage": training.zero_stage, "overlap_comm": backend == "nccl"},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**62,
        },
    )
    return engine


def full_weights(engine: deepspeed.DeepSpeedEngine, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The model's parameters by name, whole and on the CPU: on rank 0, elsewhere {}. All ranks must call this."""
    weights = {}
    for name, parameter in engine.module.model.named_parameters():
        # None where nothing is partitioned (stage 0 in float32), and of frozen parameters.
        master = safe_get_full_fp32_param(parameter)
        with deepspeed.zero.GatheredParameters([parameter], enabled=master is None):
            if engine.global_rank == 0:
                full = parameter if master is None else master
                weights[name] = full.detach().to("cpu", dtype, copy=True)
    return weights

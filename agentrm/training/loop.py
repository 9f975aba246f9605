"""The one training loop, for behaviour cloning and for the reward model: DeepSpeed, any ZeRO stage, resumable.

The data of a step depends on (seed, step) alone, and a checkpoint holds all state that a step changes, so a fit that
was killed and resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from deepspeed import DeepSpeedEngine
from torch import distributed

from agentrm.config.schema import Training
from agentrm.core.errors import ModelError
from agentrm.data.sequences import Sequences, collate, label_places
from agentrm.training.adapters import adapt, merge
from agentrm.training.losses import Objective
from agentrm.training.packing import plan_epoch
from agentrm.training.schedule import checkpoint_steps, learning_rate
from agentrm.training.zero import full_weights, initialize

_TAG = "deepspeed"


@dataclass(frozen=True, slots=True)
class Progress:
    """After one optimizer step: `step` of `steps` are done; `loss` is the mean over the terms of the global batch,
    `tokens` its tokens without padding, `gradient_norm` before clipping (None at ZeRO stage 0, which does not tell).
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """The end of a fit: `weights` by parameter name on rank 0, {} on others; `values` (P,) float32 of the trained
    weights at the labelled positions of the held-out sequences, on every rank.
    """

    weights: dict[str, torch.Tensor]
    values: np.ndarray | None


Checkpoint = Callable[[int, Callable[[Path], None]], None]


def fit(
    objective: Objective,
    sequences: Sequences,
    held_out: Sequences | None,
    training: Training,
    *,
    seed: int,
    device: torch.device,
    resume: Path | None,
    checkpoint: Checkpoint,
    record: Callable[[Progress], None],
) -> Fitted:
    """Train `objective` in place; every rank of the default process group calls this with the same arguments.

    `checkpoint(step, save)` is called on all ranks `training.checkpoints` times; `save(directory)` writes this rank's
    shard. `resume` is a folder that holds the shards of all ranks. `record` is called after every step on every rank.
    `held_out` is valued with the trained weights at the end; only a reward model's objective can. Raises
    ModelError when the loss stops being finite.
    """
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    width = ranks * training.accumulate

    def plan(epoch: int) -> list[list[list[int]]]:
        budget, accumulate = training.tokens_per_batch, training.accumulate
        return plan_epoch(sequences.lengths, budget, ranks, accumulate, seed, epoch, sequences.units)

    # The number of micro-batches depends on the lengths alone, so every epoch has as many steps as the first.
    epoch_plan, planned = plan(0), 0
    per_epoch = len(epoch_plan)
    steps = per_epoch * training.epochs
    if training.lora.rank:
        adapt(objective.model, training.lora, seed)
    engine = initialize(objective, training, distributed.get_backend())
    engine.train()
    done = 0
    if resume is not None:
        _, state = engine.load_checkpoint(str(resume), tag=_TAG, load_module_strict=not training.lora.rank)
        done = state["step"]
    saves = checkpoint_steps(steps, training.checkpoints)
    lengths, counts = sequences.lengths, np.diff(sequences.term_starts)
    for step in range(done, steps):
        epoch, within = divmod(step, per_epoch)
        if epoch != planned:
            epoch_plan, planned = plan(epoch), epoch
        micro_batches = epoch_plan[within]
        members = [index for batch in micro_batches for index in batch]
        terms = int(counts[members].sum())
        rate = learning_rate(step, steps, training.learning_rate, training.warmup)
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed((seed << 40) ^ (step << 16) ^ rank)
        total = torch.zeros((), device=device)
        for micro in range(training.accumulate):
            batch = collate(sequences, micro_batches[micro * ranks + rank], device)
            summed = engine(*batch.inputs)
            # DeepSpeed averages over ranks and accumulation; the mean wanted is the one over the global batch's terms.
            engine.backward(summed * (width / terms))
            engine.step()
            total += summed.detach()
        distributed.all_reduce(total)
        loss = total.item() / terms
        if not loss < float("inf"):
            raise ModelError(f"the loss is {loss} at step {step + 1} of {steps}: lower learning_rate")
        norm = engine.get_global_grad_norm()
        norm = None if norm is None else float(norm)
        record(Progress(step + 1, steps, loss, rate, norm, int(lengths[members].sum())))
        if step + 1 in saves:
            checkpoint(step + 1, partial(_save, engine, step + 1))
    weights = full_weights(engine, getattr(torch, training.dtype))
    return Fitted(
        merge(objective.model, weights) if training.lora.rank else weights,
        None if held_out is None else _values(engine, held_out, training.tokens_per_batch, device),
    )


@torch.no_grad()
def _values(engine: DeepSpeedEngine, sequences: Sequences, budget: int, device: torch.device) -> np.ndarray:
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    engine.eval()
    values = torch.zeros(len(sequences.labels), device=device)
    for step in plan_epoch(sequences.lengths, budget, ranks, 1, 0, 0):
        members = step[rank]
        batch = collate(sequences, members, device)
        places = torch.from_numpy(label_places(sequences, members))
        values[places.to(device)] = engine(batch.ids, batch.flat, None, None, batch.reference)
    distributed.all_reduce(values)
    return values.cpu().numpy()


def _save(engine: DeepSpeedEngine, step: int, directory: Path) -> None:
    # What LoRA froze is in the base model.
    engine.save_checkpoint(
        str(directory), tag=_TAG, client_state={"step": step}, save_latest=False, exclude_frozen_parameters=True
    )

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
from torch import distributed

from agentrm.config.schema import Training
from agentrm.core.errors import ModelError
from agentrm.data.sequences import Sequences, collate, label_places
from agentrm.training import checkpoints
from agentrm.training.adapters import ADAPTER_MARK, adapt, merged, save_adapter
from agentrm.training.export import save_model
from agentrm.training.importing import DeepSpeedEngine
from agentrm.training.losses import Objective
from agentrm.training.packing import plan_epoch
from agentrm.training.schedule import checkpoint_steps, learning_rate
from agentrm.training.sequence_parallel import share_rows, stretch
from agentrm.training.zero import full_weights, initialize, sizes_of


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
    """The end of a fit: `export` writes this rank's part of a Hugging Face directory, and all ranks must call it;
    `values` (P,) float32 of the trained weights at the labelled positions of the held-out sequences, on every rank.
    """

    export: Callable[[Path], None]
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
    # Ranks that share rows work on one micro-batch.
    sharing = training.sequence_parallel
    groups, group = ranks // sharing, rank // sharing

    def plan(epoch: int) -> list[list[list[int]]]:
        budget, accumulate = training.tokens_per_batch * sharing, training.accumulate
        return plan_epoch(sequences.lengths, budget, groups, accumulate, seed, epoch, sequences.units)

    # The number of micro-batches depends on the lengths alone, so every epoch has as many steps as the first.
    epoch_plan, planned = plan(0), 0
    per_epoch = len(epoch_plan)
    steps = per_epoch * training.epochs
    if sharing > 1:
        share_rows(objective.model, sharing)
    if training.lora.rank:
        adapt(objective.model, training.lora, seed)
    engine, done = _started(objective, training, resume, steps)
    engine.train()
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
        for parameters in engine.optimizer.param_groups:
            parameters["lr"] = rate
        torch.manual_seed((seed << 40) ^ (step << 16) ^ rank)
        total = torch.zeros((), device=device)
        for micro in range(training.accumulate):
            batch = collate(sequences, micro_batches[micro * groups + group], device)
            if sharing > 1:
                batch, _ = stretch(batch, rank % sharing, sharing)
            summed = engine(*batch.inputs)
            # DeepSpeed averages over ranks and accumulation; the mean wanted is the one over the global batch's terms.
            engine.backward(summed * (ranks * training.accumulate / terms))
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
            checkpoint(step + 1, partial(checkpoints.save, engine, {"step": step + 1, "steps": steps}))
    return Fitted(
        partial(_export, engine, training),
        None if held_out is None else _values(engine, held_out, training, device),
    )


@torch.no_grad()
def _values(engine: DeepSpeedEngine, sequences: Sequences, training: Training, device: torch.device) -> np.ndarray:
    rank, ranks, sharing = distributed.get_rank(), distributed.get_world_size(), training.sequence_parallel
    engine.eval()
    values = torch.zeros(len(sequences.labels), device=device)
    for step in plan_epoch(sequences.lengths, training.tokens_per_batch * sharing, ranks // sharing, 1, 0, 0):
        members = step[rank // sharing]
        batch, places = collate(sequences, members, device), label_places(sequences, members)
        if sharing > 1:
            batch, own = stretch(batch, rank % sharing, sharing)
            places = places[own]
        outputs = engine(batch.ids, batch.flat, None, None, batch.reference, batch.positions)
        values[torch.from_numpy(places).to(device)] = outputs
    distributed.all_reduce(values)
    return values.cpu().numpy()


def _started(objective: Objective, training: Training, resume: Path | None, steps: int) -> tuple[DeepSpeedEngine, int]:
    """The engine, and how many of the `steps` are done; of a fit with steps of another size, as large a share."""
    if resume is None:
        return initialize(objective, training), 0
    with checkpoints.readable(resume) as (directory, universal):
        engine = initialize(objective, training, universal)
        state = checkpoints.load(engine, directory, strict=not training.lora.rank)
    return engine, round(state["step"] * steps / state["steps"])


def _export(engine: DeepSpeedEngine, training: Training, directory: Path) -> None:
    model, dtype = engine.module.model, getattr(torch, training.dtype)
    if training.lora.keep:
        save_adapter(model, full_weights(engine, frozen=False), training.lora, dtype, directory)
        return
    weights, sizes = full_weights(engine), sizes_of(model)
    if training.lora.rank:
        weights = merged(model, weights)
        sizes = {name.replace(".base_layer.", "."): size for name, size in sizes.items() if ADAPTER_MARK not in name}
    save_model(model, weights, sizes, dtype, directory)

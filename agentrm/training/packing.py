"""Packing sequences into micro-batches of a fixed token budget.

Sequences of like length share a micro-batch, so little is padded and attention stays plain causal: on CPU and GPU that
is faster than a block-diagonal mask over concatenated sequences, which loses the fused causal kernels.
"""

from __future__ import annotations

import numpy as np

from agentrm.config.schema import Training
from agentrm.core.errors import UserError
from agentrm.data.sequences import Sequences

Plan = list[list[list[int]]]


def plan_epoch(
    lengths: np.ndarray,
    budget: int,
    ranks: int,
    accumulate: int,
    seed: int,
    epoch: int,
    units: np.ndarray | None = None,
) -> Plan:
    """The micro-batches of one epoch: `plan[step][micro * ranks + rank]` lists the sequences of one micro-batch.

    `lengths` (S,) tokens per sequence; those of one number, from 0, in `units` (S,) stay together (None: each is
    alone). A micro-batch holds at most `budget` tokens, padding included, or one larger unit. Every sequence comes
    exactly once. What the ranks work on at a time is of like size, so no worker waits long for another; the
    micro-batches that one step accumulates are of any, so that a step does not see a single length. Where no
    micro-batch can be halved to fill the last step, some are empty, but never all of a step. Depends on (seed, epoch)
    and the sizes alone. Raises UserError when there are fewer sequences than one step needs.
    """
    width = ranks * accumulate
    numbers = np.arange(len(lengths)) if units is None else units
    members = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[members], prepend=-1))
    if len(starts) < width:
        what = "sequences" if units is None else "groups of sequences with pairs"
        raise UserError(
            f"there are {len(starts)} training {what}, fewer than workers * accumulate = {width}: "
            "give more tasks or fewer workers"
        )
    longest = np.maximum.reduceat(lengths[members], starts)
    sizes = np.diff(starts, append=len(members))
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(starts))
    # By both, so that every epoch has as many micro-batches as the first.
    ordered = shuffled[np.lexsort((sizes[shuffled], longest[shuffled]))[::-1]]
    filled = np.cumsum(sizes[ordered])
    batches: list[np.ndarray] = []
    start = 0
    while start < len(ordered):
        rows = budget // int(longest[ordered[start]])
        before = filled[start] - sizes[ordered[start]]
        end = max(start + 1, int(np.searchsorted(filled, before + rows, side="right")))
        batches.append(ordered[start:end])
        start = end

    def padded(batch: np.ndarray) -> int:
        return int(sizes[batch].sum() * longest[batch[0]]) if len(batch) else 0

    while len(batches) % width:
        # Of single units none can be halved, and a worker without one waits for the others.
        largest = max(range(len(batches)), key=lambda b: (len(batches[b]) > 1, padded(batches[b])))
        batch = batches[largest]
        half = len(batch) // 2
        batches[largest : largest + 1] = [batch[:half], batch[half:]]
    batches.sort(key=lambda batch: (padded(batch), *batch[:1]))

    def sequences(batch: np.ndarray) -> list[int]:
        return [member for unit in batch for member in members[starts[unit] : starts[unit] + sizes[unit]].tolist()]

    read = [sequences(batch) for batch in batches]
    together = [read[i : i + ranks] for i in range(0, len(batches), ranks)]
    order = random.permutation(len(together)).reshape(-1, accumulate)
    return [[batch for group in step for batch in together[group]] for step in order]


def steps_of(sequences: Sequences, training: Training) -> int:
    """The optimizer steps of a fit over these sequences. Raises UserError as `plan_epoch` does."""
    budget, sharing = training.tokens_per_batch, training.sequence_parallel
    ranks, accumulate = training.workers // sharing, training.accumulate
    plan = plan_epoch(sequences.lengths, budget * sharing, ranks, accumulate, 0, 0, sequences.units)
    return len(plan) * training.epochs

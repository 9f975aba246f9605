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


def plan_epoch(lengths: np.ndarray, budget: int, ranks: int, accumulate: int, seed: int, epoch: int) -> Plan:
    """The micro-batches of one epoch: `plan[step][micro * ranks + rank]` lists the sequences of one micro-batch.

    `lengths` (S,) tokens per sequence; a micro-batch holds at most `budget` tokens, padding included, or one longer
    sequence. Every sequence comes exactly once. What the ranks work on at a time is of like size, so no worker waits
    long for another; the micro-batches that one step accumulates are of any, so that a step does not see a single
    length. Where no micro-batch can be halved to fill the last step, some are empty, but never all of a step. Depends
    on (seed, epoch) and the sizes alone. Raises UserError when there are fewer sequences than one step needs.
    """
    width = ranks * accumulate
    if len(lengths) < width:
        raise UserError(
            f"there are {len(lengths)} training sequences, fewer than workers * accumulate = {width}: "
            "give more tasks or fewer workers"
        )
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(lengths))
    ordered = shuffled[np.argsort(lengths[shuffled], kind="stable")[::-1]]
    batches: list[np.ndarray] = []
    start = 0
    while start < len(ordered):
        rows = max(1, budget // int(lengths[ordered[start]]))
        batches.append(ordered[start : start + rows])
        start += rows

    def padded(batch: np.ndarray) -> int:
        return len(batch) * int(lengths[batch[0]]) if len(batch) else 0

    while len(batches) % width:
        # Of single sequences none can be halved, and a worker without one waits for the others.
        largest = max(range(len(batches)), key=lambda b: (len(batches[b]) > 1, padded(batches[b])))
        batch = batches[largest]
        half = len(batch) // 2
        batches[largest : largest + 1] = [batch[:half], batch[half:]]
    batches.sort(key=lambda batch: (padded(batch), *batch[:1]))
    together = [[batch.tolist() for batch in batches[i : i + ranks]] for i in range(0, len(batches), ranks)]
    order = random.permutation(len(together)).reshape(-1, accumulate)
    return [[batch for group in step for batch in together[group]] for step in order]


def steps_of(sequences: Sequences, training: Training) -> int:
    """The optimizer steps of a fit over these sequences. Raises UserError as `plan_epoch` does."""
    budget, ranks, accumulate = training.tokens_per_batch, training.workers, training.accumulate
    return len(plan_epoch(sequences.lengths, budget, ranks, accumulate, 0, 0)) * training.epochs

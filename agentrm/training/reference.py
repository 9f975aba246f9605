"""The reference policy's log-probabilities of the agent's tokens, computed once per fit by the untrained model.

A fit of an implicit reward model starts at its reference, so no second model is ever loaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from agentrm.config.schema import Training
from agentrm.data.sequences import Sequences, collate
from agentrm.training.losses import LogRatioError
from agentrm.training.packing import plan_epoch


def with_reference(
    objective: LogRatioError, sequences: Sequences, training: Training, device: torch.device, file: Path
) -> Sequences:
    """The sequences with `reference` filled in by the untrained `objective`; stored in `file` for a resumed fit.

    One forward pass over the data, shared by all ranks of the default process group; all must call this.
    """
    stored = torch.tensor(int(file.exists()), device=device)
    distributed.all_reduce(stored, distributed.ReduceOp.MIN)
    if stored.item():
        return replace(sequences, reference=np.load(file))
    assert sequences.reference is not None
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    objective.model.to(device).eval()
    reference = torch.zeros(len(sequences.ids), device=device)
    for step in plan_epoch(sequences.lengths, training.tokens_per_batch, ranks, 1, 0, 0):
        members = step[rank]
        batch = collate(sequences, members, device)
        assert batch.reference is not None
        with torch.no_grad():
            rows = objective.log_probabilities(batch.ids, batch.reference)
        for row, index in zip(rows, members, strict=False):
            start, end = sequences.starts[index], sequences.starts[index + 1]
            reference[start:end] = row[: end - start]
    distributed.all_reduce(reference)
    values = np.where(np.isnan(sequences.reference), np.nan, reference.cpu().numpy()).astype(np.float32)
    if rank == 0:
        temporary = file.with_name(f"writing-{file.name}")
        np.save(temporary, values)
        temporary.rename(file)
    return replace(sequences, reference=values)

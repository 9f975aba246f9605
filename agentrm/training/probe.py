"""The scalar head's starting point: the best linear read-out of the backbone as it is, in closed form.

A head that starts at zero makes the backbone move at random before the head knows a direction. Noisy labels make that
costly: on small data the linear read-out alone beats a full fit from zero (LP-FT, arXiv 2202.10054).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import distributed

from agentrm.config.schema import Training
from agentrm.training.losses import ValueSquaredError
from agentrm.training.packing import plan_epoch
from agentrm.training.sequences import Sequences, collate

_RIDGE = 0.01
"""The ridge penalty, relative to the mean eigenvalue of the features' second moments."""


@torch.no_grad()
def fit_head(objective: ValueSquaredError, sequences: Sequences, training: Training, device: torch.device) -> float:
    """Set the head to the ridge regression of the labels on the backbone's features; returns its mean loss.

    Weights and contrast are those of the objective's loss. One forward pass over the data, shared by all ranks of the
    default process group; all must call this.
    """
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    model = objective.model.to(device).eval()
    head = model.get_submodule("score").weight
    size = head.shape[1]
    # The second moments of (features, label), so that one matrix holds all that the regression needs.
    moments = torch.zeros(size + 1, size + 1, dtype=torch.float64, device=device)
    plan = plan_epoch(sequences.lengths, training.tokens_per_batch, ranks, 1, 0, 0, sequences.bundles)
    for step in plan:
        batch = collate(sequences, step[rank], device)
        features = objective.features(batch.ids, batch.flat, batch.ends).double()
        labels = batch.labels.double()
        weights = torch.ones_like(labels) if batch.weights is None else batch.weights.double()
        rows = objective.contrasted(torch.cat([features, labels[:, None]], 1), weights, batch.bundles)
        moments += rows.T @ (rows * weights[:, None])
    distributed.all_reduce(moments)
    gram, target = moments[:size, :size], moments[:size, size]
    penalty = _RIDGE * gram.diagonal().mean() * torch.eye(size, dtype=torch.float64, device=device)
    solution = torch.linalg.solve(gram + penalty, target)
    head.copy_(solution[None])
    loss = moments[size, size] - 2 * solution @ target + solution @ gram @ solution
    return float(loss) / float(np.sum(sequences.label_counts))

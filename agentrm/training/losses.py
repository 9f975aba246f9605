"""The two objectives, as modules that DeepSpeed wraps: the backbone runs once, its head only where there is a label.

Both return the sum over the labels of a micro-batch; the loop divides by the labels of the whole global batch, so that
the gradient is the mean over labels whatever the split into micro-batches and workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel


class Objective(nn.Module, ABC):
    """A model and its loss; inputs as in `sequences.Batch`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, flat: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """`ids` (B, L), `flat` (P,), `labels` (P,): the summed loss, a float32 scalar; without labels the head's
        outputs.
        """
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        outputs = self.head(hidden.flatten(0, 1).index_select(0, flat)).float()
        return outputs if labels is None else self.summed(outputs, labels)

    @abstractmethod
    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """The outputs (P, ...) at the labelled positions, from the backbone's `hidden` (P, H)."""

    @abstractmethod
    def summed(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss over all labels."""


class TokenCrossEntropy(Objective):
    """Behaviour cloning (paper.md, method 1): cross entropy in nats of the token that follows each labelled
    position.
    """

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.get_output_embeddings()(hidden)

    def summed(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, reduction="sum")


class ValueSquaredError(Objective):
    """The explicit reward model (paper.md, method 3): squared error of the scalar head at the last token of each state.

    A state is a prefix of its successors and attention is causal, so one forward pass values every state of a
    trajectory.
    """

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.get_submodule("score")(hidden).squeeze(-1)

    def summed(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(outputs, labels, reduction="sum")

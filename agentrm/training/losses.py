"""The objectives, as modules that DeepSpeed wraps: the backbone runs once, its head only where it is needed.

All return the sum over the terms of a micro-batch, labels or pairs of them; the loop divides by the terms of the whole
global batch, so that the gradient is the mean over terms whatever the split into micro-batches and workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from agentrm.config.schema import Loss


class Objective(nn.Module, ABC):
    """A model and its loss; inputs as in `sequences.Batch`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        ids: torch.Tensor,
        flat: torch.Tensor,
        labels: torch.Tensor | None,
        weights: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`ids`, `reference` and `positions` (B, L), `flat` (P,), `labels` and `weights` as in `Batch`: the summed
        loss, a float32 scalar; without labels the outputs that it compares with them.
        """
        outputs = self.outputs(ids, flat, reference, positions).float()
        return outputs if labels is None else self.summed(outputs, labels, weights)

    def outputs(
        self,
        ids: torch.Tensor,
        flat: torch.Tensor,
        reference: torch.Tensor | None,
        positions: torch.Tensor | None,
    ) -> torch.Tensor:
        """The model's outputs (P, ...) at the labelled positions."""
        hidden = self.model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        return self.head(hidden.flatten(0, 1).index_select(0, flat))

    @abstractmethod
    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """The outputs (P, ...) at the labelled positions, from the backbone's `hidden` (P, H)."""

    @abstractmethod
    def summed(self, outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """The loss over all labels or pairs."""


class TokenCrossEntropy(Objective):
    """Behaviour cloning (paper, section 3): cross entropy in nats of the token that follows each labelled position."""

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.get_output_embeddings()(hidden)

    def summed(self, outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, reduction="sum")


class ScalarHead(Objective):
    """An explicit reward model: one raw value at the last token of each state or action.

    A state is a prefix of its successors and attention is causal, so one forward pass values every state and action of
    a trajectory.
    """

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.get_submodule("score")(hidden).squeeze(-1)


class ValueSquaredError(ScalarHead):
    """The paper's (section 3): squared error of the value."""

    def summed(self, outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        if weights is None:
            return functional.mse_loss(outputs, labels, reduction="sum")
        return (weights * (outputs - labels) ** 2).sum()


class ValueCrossEntropy(ScalarHead):
    """Cross entropy in nats, the value being the logit of a label in [0, 1]."""

    def summed(self, outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(outputs, labels, weights, reduction="sum")


class BradleyTerry(ScalarHead):
    """-log sigmoid(better - worse), in nats, of each pair: `labels` (Q, 2) are places among the outputs."""

    def summed(self, outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        better, worse = outputs[labels].unbind(1)
        losses = -functional.logsigmoid(better - worse)
        return losses.sum() if weights is None else (weights * losses).sum()


EXPLICIT = {
    Loss.squared: ValueSquaredError,
    Loss.cross_entropy: ValueCrossEntropy,
    Loss.bradley_terry: BradleyTerry,
}
"""The objectives of explicit reward models."""


class LogRatioError(ValueSquaredError):
    """The implicit reward model (paper, section 3): the value of a state is beta times the summed log-probability
    ratio of all the agent's tokens so far, policy in training over reference.

    `cross_entropy` takes the value as the logit of a label in [0, 1] (ImplicitPRM); else the error is squared.
    """

    def __init__(self, model: PreTrainedModel, beta: float, cross_entropy: bool) -> None:
        super().__init__(model)
        self.beta = beta
        self.cross_entropy = cross_entropy

    def outputs(
        self,
        ids: torch.Tensor,
        flat: torch.Tensor,
        reference: torch.Tensor | None,
        positions: torch.Tensor | None,
    ) -> torch.Tensor:
        assert reference is not None
        ratios = self.log_probabilities(ids, reference) - reference.nan_to_num()
        return self.beta * ratios.cumsum(1).flatten().index_select(0, flat)

    def log_probabilities(self, ids: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, L): the model's at the tokens where `reference` (B, L) is a number, 0 elsewhere."""
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        written = (~reference.isnan()).flatten().nonzero().squeeze(1)
        # The token before predicts; the first of a sequence is never the agent's.
        logits = self.model.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, written - 1)).float()
        logprobs = -functional.cross_entropy(logits, ids.flatten()[written], reduction="none")
        return torch.zeros(ids.numel(), device=ids.device).index_copy(0, written, logprobs).view_as(ids)

    def summed(self, outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        if not self.cross_entropy:
            return super().summed(outputs, labels, weights)
        return functional.binary_cross_entropy_with_logits(outputs, labels, weights, reduction="sum")

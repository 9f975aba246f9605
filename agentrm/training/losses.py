"""The objectives, as modules that DeepSpeed wraps: the backbone runs once, its head only where it is needed.

All return the sum over the labels of a micro-batch; the loop divides by the labels of the whole global batch, so that
the gradient is the mean over labels whatever the split into micro-batches and workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from agentrm.training.tree_attention import depths, mask


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
        bundles: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`ids`, `reference` and `ends` (B, L), `flat`, `labels`, `weights` and `bundles` (P,): the summed
        loss, a float32 scalar; without labels the outputs that it compares with them.
        """
        outputs = self.outputs(ids, flat, reference, ends).float()
        return outputs if labels is None else self.summed(outputs, labels, weights, bundles)

    def outputs(
        self,
        ids: torch.Tensor,
        flat: torch.Tensor,
        reference: torch.Tensor | None,
        ends: torch.Tensor | None,
    ) -> torch.Tensor:
        """The model's outputs (P, ...) at the labelled positions."""
        return self.head(self.features(ids, flat, ends))

    def features(
        self,
        ids: torch.Tensor,
        flat: torch.Tensor,
        ends: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The backbone's last hidden states (P, H) at the labelled positions."""
        seen = None if ends is None else mask(ends)
        places = None if seen is None else depths(seen)
        hidden = self.model.base_model(
            input_ids=ids, position_ids=places, attention_mask=seen, use_cache=False
        ).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, flat)

    @abstractmethod
    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """The outputs (P, ...) at the labelled positions, from the backbone's `hidden` (P, H)."""

    @abstractmethod
    def summed(
        self,
        outputs: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None,
        bundles: torch.Tensor | None,
    ) -> torch.Tensor:
        """The loss over all labels."""


class TokenCrossEntropy(Objective):
    """Behaviour cloning (paper.md, method 1): cross entropy in nats of the token that follows each labelled
    position.
    """

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.get_output_embeddings()(hidden)

    def summed(
        self,
        outputs: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None,
        bundles: torch.Tensor | None,
    ) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, reduction="sum")


class ValueSquaredError(Objective):
    """The explicit reward model (paper.md, method 3): squared error of the scalar head at the last token of each state.

    A state is a prefix of its successors and attention is causal, so one forward pass values every state of a
    trajectory. `contrast` c in [0, 1] takes the share c of the mean error of each tree out of its errors: at 0 the loss
    is the plain squared error; at 1 it is that of the differences between states of one tree, and how hard the task is,
    which no search needs to know, is not learned at all.
    """

    def __init__(self, model: PreTrainedModel, contrast: float = 0.0) -> None:
        super().__init__(model)
        self.contrast = contrast

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.get_submodule("score")(hidden).squeeze(-1)

    def summed(
        self,
        outputs: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None,
        bundles: torch.Tensor | None,
    ) -> torch.Tensor:
        if weights is None and not self.contrast:
            return functional.mse_loss(outputs, labels, reduction="sum")
        weights = torch.ones_like(labels) if weights is None else weights
        errors = (outputs - labels)[:, None]
        return (weights * self.contrasted(errors, weights, bundles).squeeze(1) ** 2).sum()

    def contrasted(self, rows: torch.Tensor, weights: torch.Tensor, bundles: torch.Tensor | None) -> torch.Tensor:
        """`rows` (P, D) less the share `contrast` of the weighted mean row of their bundle."""
        if not self.contrast or bundles is None or not len(bundles):
            return rows
        groups = int(bundles.max()) + 1
        sums = rows.new_zeros(groups, rows.shape[1]).index_add(0, bundles, rows * weights[:, None])
        totals = weights.new_zeros(groups).index_add(0, bundles, weights)
        return rows - self.contrast * (sums / totals[:, None])[bundles]


class LogRatioError(ValueSquaredError):
    """The implicit reward model (paper.md, method 3): the value of a state is beta times the summed log-probability
    ratio of all the agent's tokens so far, policy in training over reference.

    `cross_entropy` takes the value as the logit of a label in [0, 1] (ImplicitPRM); else the error is squared.
    """

    def __init__(self, model: PreTrainedModel, beta: float, cross_entropy: bool, contrast: float = 0.0) -> None:
        super().__init__(model, contrast)
        self.beta = beta
        self.cross_entropy = cross_entropy

    def outputs(
        self,
        ids: torch.Tensor,
        flat: torch.Tensor,
        reference: torch.Tensor | None,
        ends: torch.Tensor | None,
    ) -> torch.Tensor:
        # The token before one in a row predicts it, which in a tree it does not.
        assert reference is not None and ends is None
        ratios = self.log_probabilities(ids, reference) - reference.nan_to_num()
        return self.beta * ratios.cumsum(1).flatten().index_select(0, flat)

    def log_probabilities(self, ids: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, L): the model's at the tokens where `reference` (B, L) is a number, 0 elsewhere."""
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        written = (~reference.isnan()).flatten().nonzero().squeeze(1)
        # The token before predicts; the first of a sequence is never the agent's.
        logits = self.model.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, written - 1)).float()
        found = -functional.cross_entropy(logits, ids.flatten()[written], reduction="none")
        return torch.zeros(ids.numel(), device=ids.device).index_copy(0, written, found).view_as(ids)

    def summed(
        self,
        outputs: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None,
        bundles: torch.Tensor | None,
    ) -> torch.Tensor:
        if not self.cross_entropy:
            return super().summed(outputs, labels, weights, bundles)
        return functional.binary_cross_entropy_with_logits(outputs, labels, weights, reduction="sum")

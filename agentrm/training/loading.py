"""What a fit starts from: the model of a directory with its loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from agentrm.config.schema import RewardKind, Train, Training
from agentrm.models import stored
from agentrm.training.losses import EXPLICIT, LogRatioError, Objective, TokenCrossEntropy
from agentrm.training.partitioned import load_partitioned
from agentrm.training.zero import settings


def load_objective(base: Path, training: Training) -> Objective:
    """The model in a directory, in float32, with the loss of its fit: a reward model's, else the policy's.

    At ZeRO stage 3 each rank of the default process group gets its part alone, but of an implicit reward model.
    """
    if isinstance(training, Train) and training.kind is RewardKind.explicit:
        return EXPLICIT[training.loss](_load(AutoModelForSequenceClassification, base, training))
    if isinstance(training, Train):
        # It is asked for the reference's values before DeepSpeed wraps it, which alone can gather its parts.
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return LogRatioError(model, training.beta, training.kind is RewardKind.implicit_cross_entropy)
    return TokenCrossEntropy(_load(AutoModelForCausalLM, base, training))


def _load(auto: Any, base: Path, training: Training) -> PreTrainedModel:
    if training.zero_stage == 3 and stored.by_own_names(auto, base):
        return load_partitioned(auto, base, settings(training))
    return auto.from_pretrained(base, dtype=torch.float32)

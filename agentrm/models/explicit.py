"""The explicit reward model (paper.md, method 3): a causal LM's backbone with one bias-free scalar head, no sigmoid.

It is saved in the shape of `AutoModelForSequenceClassification` with one label, so transformers, vLLM and TRL load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from agentrm.config.schema import ActionFormat, Representation
from agentrm.errors import ModelError, UserError
from agentrm.models.rendering import COUNTING, REPRESENTATION

# bfloat16 keeps 8 bits of a value, and a CPU and a GPU round at different places.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def build(
    base: Path,
    directory: Path,
    representation: Representation | None = None,
    form: ActionFormat = ActionFormat.react,
) -> None:
    """Write the untrained reward model of a causal LM's directory: its backbone, and a head that answers 0.

    `representation` (default: the whole state) goes into its config.json, so that every `Renderer` of the directory
    shows the model what it was trained on; `form` is how the turns to be cut are written. Its chat template counts the
    actions where the representation does, for libraries that know nothing of AgentRM. Raises UserError when `base`
    holds no such model.
    """
    if not (base / "config.json").is_file():
        raise UserError(f"train.base is {base}, where there is no Hugging Face model: config.json is missing")
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, problem_type="regression", dtype=torch.float32
    )
    torch.nn.init.zeros_(_head(model, base).weight)
    # transformers finds the last token of a padded row by this id.
    model.config.pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if representation is not None and representation != Representation():
        setattr(model.config, REPRESENTATION, asdict(representation) | {"action_format": form.value})
        if representation.action_count:
            tokenizer.chat_template = COUNTING + tokenizer.get_chat_template()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def check(directory: Path) -> None:
    """Raise ModelError unless a reward model's head, tokenizer and chat template lie in `directory`."""
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{directory} holds no reward model: there are no safetensors")
    names: set[str] = set()
    for file in weights:
        with safe_open(file, framework="pt") as tensors:
            names.update(tensors.keys())
    if "score.weight" not in names:
        raise ModelError(
            f"{directory} holds no scalar head (score.weight), so its scores would be random: export it again"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory} holds no tokenizer: export the reward model again") from error
    if not tokenizer.chat_template:
        raise ModelError(f"{directory} holds no chat template: export the reward model again")


@torch.no_grad()
def score(model: PreTrainedModel, states: Sequence[Sequence[int]]) -> list[float]:
    """Raw values of token-id sequences by plain transformers, one forward pass each."""
    return [model(input_ids=torch.tensor([list(ids)])).logits.float().item() for ids in states]


def verify(directory: Path, states: Sequence[Sequence[int]], expected: Sequence[float]) -> float:
    """Load an export as any user would and compare its scores of `states` with those of the weights in training.

    Returns the largest difference. Raises ModelError when it is too large, or when all scores are the same.
    """
    check(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype="auto").eval()
    if model.config.num_labels != 1 or model.config.pad_token_id is None:
        raise ModelError(f"{directory} needs num_labels=1 and a pad_token_id in its config.json: export it again")
    scores = np.array(score(model, states))
    difference = float(np.abs(scores - np.asarray(expected)).max())
    if not difference <= _TOLERANCE[model.dtype]:
        raise ModelError(
            f"the scores of {directory} differ from those in training by {difference:.2g}: export it again"
        )
    if np.ptp(scores) == 0:
        raise ModelError(f"{directory} gives every state the same score: raise train.learning_rate or grow more trees")
    return difference


def _head(model: PreTrainedModel, base: Path) -> torch.nn.Linear:
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise UserError(f"{base} is a {model.config.model_type} model, whose classifier is no bias-free linear `score`")
    return head

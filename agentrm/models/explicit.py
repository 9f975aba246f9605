"""The explicit reward model (paper, section 3): a causal LM's backbone with one bias-free scalar head, no sigmoid.

It is saved in the shape of `AutoModelForSequenceClassification` with one label, so transformers, vLLM and TRL load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from agentrm import model_directory
from agentrm.config.schema import Representation, Template
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import ModelError, UserError
from agentrm.model_directory import ModelKind
from agentrm.models import adapters, ensemble, padding
from agentrm.rendering.append_only import append_only
from agentrm.rendering.renderer import REPRESENTATION, settle_template

# bfloat16 keeps 8 bits of a value, and a CPU and a GPU round at different places.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def build(
    base: Path,
    directory: Path,
    representation: Representation | None = None,
    form: ActionFormat = ActionFormat.react,
    template: Template = Template.base,
) -> None:
    """Write the reward model that a fit starts from: of a causal LM's directory the backbone, and a head that answers
    0; of a reward model's the backbone and the trained head (an ensemble's first member's).

    `representation` (default: the whole state) goes into its config.json, so that every `Renderer` of the directory
    shows the model what it was trained on; `form` is how the turns to be cut are written. Its chat template shows a
    fixed date for today's, and counts the actions where the representation does, for libraries that know nothing of
    AgentRM; `template` may name another than the base's. Its padding token is one that no state holds, see `padding`.
    Raises UserError when `base` holds no such model.
    """
    held = model_directory.kind_of_base(base)
    if held is ModelKind.implicit:
        raise UserError(
            f"train.base is {base}, an implicit reward model, whose values a scalar head cannot start from: name the "
            "policy that it was trained from"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        if adapters.kept(base):
            model, missing = adapters.load(base, torch.float32), set()
        else:
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                base, num_labels=1, problem_type="regression", dtype=torch.float32, output_loading_info=True
            )
            missing = loaded["missing_keys"]
    except (OSError, ValueError) as error:
        raise UserError(f"train.base is {base}, which cannot be loaded: {str(error).splitlines()[0]}") from error
    head = _head(model, base)
    if ("score.weight" in missing) == (held is ModelKind.explicit):
        raise UserError(f"train.base is {base}, whose config.json and weights disagree on whether it has a scalar head")
    if held is ModelKind.policy:
        torch.nn.init.zeros_(head.weight)
    # A reward model's own representation gives way to the one that is asked for.
    vars(model.config).pop(REPRESENTATION, None)
    if template is Template.append_only:
        tokenizer.chat_template = append_only(tokenizer)
    settle_template(tokenizer)
    _pad(model, padding.choose(tokenizer))
    if representation is not None and representation != Representation():
        setattr(model.config, REPRESENTATION, asdict(representation) | {"action_format": form.value})
        settle_template(tokenizer, counted=representation.action_count)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    ensemble.alone(directory)


def _pad(model: PreTrainedModel, token: int) -> None:
    """Make `token` what transformers takes for padding."""
    rows = model.get_input_embeddings().num_embeddings
    if token >= rows:
        model.resize_token_embeddings(token + 1, mean_resizing=False)
        torch.nn.init.zeros_(model.get_input_embeddings().weight[rows:])
    model.config.pad_token_id = model.config.get_text_config().pad_token_id = token


def check_padding(directory: Path, ids: np.ndarray) -> None:
    """Raise ModelError when one of the tokens `ids` of states is what the model in `directory` takes for padding."""
    pad = AutoConfig.from_pretrained(directory).get_text_config().pad_token_id
    if (ids == pad).any():
        raise ModelError(
            f"the pad_token_id in the config.json of {directory} is {pad}, with which states are written, so that "
            "transformers would read their values elsewhere: delete that directory to have it made again"
        )


def check(directory: Path) -> None:
    """Raise ModelError unless a reward model's head, tokenizer and chat template lie in `directory`."""
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{directory} holds no reward model: there are no safetensors")
    names: set[str] = set()
    for file in weights:
        with safe_open(file, framework="pt") as tensors:
            names.update(tensors.keys())
    if not names & {"score.weight", adapters.HEAD}:
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
def raw_values(model: PreTrainedModel, states: Sequence[Sequence[int]]) -> list[float]:
    """Raw values of token-id sequences by plain transformers, one forward pass each."""
    return [model(input_ids=torch.tensor([list(ids)])).logits.float().item() for ids in states]


def verify(directory: Path, states: Sequence[Sequence[int]], expected: Sequence[float]) -> float:
    """Load an export as any user would and compare its scores of `states` with those of the weights in training.

    Returns the largest difference. Raises ModelError when it is too large, when transformers reads the values of padded
    states elsewhere than at their last token, or when all scores are the same.
    """
    check(directory)
    model = adapters.load(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    if model.config.num_labels != 1 or model.config.get_text_config().pad_token_id != tokenizer.pad_token_id:
        raise ModelError(
            f"{directory} needs num_labels=1 and its tokenizer's pad_token_id in config.json: export it again"
        )
    for side in ("left", "right"):
        if not _reads_the_ends(model, tokenizer, sorted(states, key=len)[:2], side):
            raise ModelError(
                f"transformers reads the values of states that are padded on the {side} elsewhere than at their last "
                f"token in {directory}: export it again"
            )
    scores = np.array(raw_values(model, states))
    difference = float(np.abs(scores - np.asarray(expected)).max())
    if not difference <= _TOLERANCE[model.dtype]:
        raise ModelError(
            f"the scores of {directory} differ from those in training by {difference:.2g}: export it again"
        )
    if np.ptp(scores) == 0:
        raise ModelError(f"{directory} gives every state the same score: raise train.learning_rate or grow more trees")
    return difference


@torch.no_grad()
def _reads_the_ends(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, states: Sequence[Sequence[int]], side: str
) -> bool:
    """Whether the value that transformers gives a padded state is the one at its last token rather than at another."""
    lengths = torch.tensor([len(ids) for ids in states])
    width = int(lengths.max()) + 1
    batch = tokenizer.pad(
        {"input_ids": [list(ids) for ids in states]},
        padding="max_length",
        max_length=width,
        padding_side=side,
        return_tensors="pt",
    )
    everywhere = model.get_submodule("score")(model.base_model(**batch).last_hidden_state).squeeze(-1)
    away = (everywhere - model(**batch).logits).abs().nan_to_num(torch.inf)
    ends = torch.full_like(lengths, width - 1) if side == "left" else lengths - 1
    return bool((away.gather(1, ends[:, None]).squeeze(1) <= away.min(1).values).all())


def _head(model: PreTrainedModel, base: Path) -> torch.nn.Linear:
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise UserError(f"{base} is a {model.config.model_type} model, whose classifier is no bias-free linear `score`")
    return head

"""What a model's directory says that it holds: all that AgentRM itself reads or writes in a config.json."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

from agentrm.core.errors import ModelError, UserError

IMPLICIT = "agentrm_implicit"
"""The key of an implicit reward model's config.json: `beta`, and `reference`, the directory of the reference policy,
relative to the model's.
"""

VALUES = "agentrm_values"
"""The key of an explicit reward model's config.json that says what its values are: the ends of turns `at` which they
were learned, the `loss`, and what the labels are `of`, as in `train.loss` and `train.labels`.
"""

STATE, ACTION = "state", "action"
"""The two ends of turns, as in `train.labels.at`."""

INDEX = "model.safetensors.index.json"
"""The file that says where the tensors of a model in several files are."""

CLASSIFIER = "ForSequenceClassification"
"""How the architecture of an explicit reward model ends."""


class ModelKind(str, Enum):
    """`policy`: a language model, or whatever else no reward model is."""

    policy = "policy"
    explicit = "explicit"
    implicit = "implicit"


def settings(directory: Path) -> dict[str, Any]:
    """The config.json of a model's directory. Raises ModelError when there is none, or it is no JSON object."""
    try:
        config = json.loads((directory / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory} holds no model: its config.json cannot be read") from error
    if not isinstance(config, dict):
        raise ModelError(f"{directory} holds no model: its config.json is no JSON object")
    return config


def write_settings(directory: Path, config: dict[str, Any]) -> None:
    """Make `config` the config.json of a model's directory."""
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def architecture(directory: Path) -> str:
    """The class that a directory's weights were saved from. Raises ModelError when its config.json names none."""
    named = settings(directory).get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise ModelError(f"{directory} holds no model: `architectures` in its config.json names no class")
    return named[0]


def kind(directory: Path) -> ModelKind:
    """What a directory holds. Raises ModelError when its config.json does not tell."""
    config, named = settings(directory), architecture(directory)
    if IMPLICIT in config:
        return ModelKind.implicit
    return ModelKind.explicit if named.endswith(CLASSIFIER) else ModelKind.policy


def learned_at(directory: Path) -> list[str]:
    """The ends of turns at which the values of a directory's reward model mean something: those that it learned, for an
    implicit one both, as by it an action has the value of the state that it leads to. [] where its config.json does not
    tell. Raises ModelError as `settings` does.
    """
    config = settings(directory)
    if IMPLICIT in config:
        return [STATE, ACTION]
    said = config.get(VALUES)
    at = said.get("at") if isinstance(said, dict) else None
    return [end for end in (STATE, ACTION) if end in at] if isinstance(at, list) else []


def labels(directory: Path) -> list[str]:
    """The names of a classifier's labels, in their order. Raises ModelError when its config.json does not tell."""
    config = settings(directory)
    named, count = config.get("id2label"), config.get("num_labels", 2)
    if named is None and isinstance(count, int) and count > 0:
        # As in transformers, which leaves its default of two labels out of config.json.
        return [f"LABEL_{number}" for number in range(count)]
    if not isinstance(named, dict) or not named:
        raise ModelError(f"{directory} holds a classifier without labels: look at id2label in its config.json")
    if set(named) != {str(number) for number in range(len(named))}:
        raise ModelError(f"{directory} holds a classifier whose id2label in config.json does not count from 0")
    return [str(named[str(number)]) for number in range(len(named))]


def reward_label(directory: Path, wanted: str = "") -> int:
    """Which of a classifier's labels is the reward: the only one, or the one named `wanted`. Raises ModelError."""
    names = labels(directory)
    if not wanted and len(names) == 1:
        return 0
    if wanted in names:
        return names.index(wanted)
    told = f"there is no label {wanted!r}" if wanted else "it has several labels"
    raise ModelError(f"{directory}: {told}; name the one that is the reward as serve.label: {', '.join(names)}")


def kind_of_base(base: Path) -> ModelKind:
    """What the directory holds that `train.base` names. Raises UserError when no fit can start from it."""
    try:
        held = kind(base)
        several = held is ModelKind.explicit and len(labels(base)) > 1
    except ModelError as error:
        raise UserError(f"train.base is {base}, which no fit can start from: {error}") from error
    if several:
        raise UserError(f"train.base is {base}, a classifier of several labels, which no fit can start from")
    return held


def tensor_files(directory: Path) -> dict[str, Path]:
    """The safetensors file of each tensor of a Hugging Face directory, by its name; {} where there are none. Raises
    ModelError for an index that names anything else than files of the directory.
    """
    index, single = directory / INDEX, directory / "model.safetensors"
    if index.is_file():
        try:
            files = json.loads(index.read_text())["weight_map"]
            for file in set(files.values()):
                if Path(file).name != file or not (directory / file).is_file():
                    raise ValueError(f"{file} is no file beside it")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} does not say where the tensors are: {error}") from error
        return {name: directory / file for name, file in files.items()}
    if not single.is_file():
        return {}
    from safetensors import safe_open

    with safe_open(single, framework="pt") as tensors:
        return dict.fromkeys(tensors.keys(), single)

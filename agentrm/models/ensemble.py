"""Several reward models as one that distrusts what they disagree on.

The first member's directory holds the others, and its config.json says so; read by itself it is a reward model too.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agentrm import model_directory
from agentrm.core.errors import ModelError

KEY = "agentrm_ensemble"
"""The key of config.json: `members`, the other members' directories as seen from this one, and `penalty`."""


_FOLDER = "members"


def lower_confidence(scores: Sequence[Sequence[float]], penalty: float) -> list[float]:
    """(M, N) scores of M members to N: mean - `penalty` * standard deviation (population form).

    A search picks the highest of many scores, so it picks errors too; states on which the members disagree lose. The
    members' scores must share one scale. A state that one member cannot score (-inf) scores -inf.
    """
    matrix = np.asarray(scores, float)
    usable = np.isfinite(matrix).all(axis=0)
    values = np.full(matrix.shape[1], -np.inf)
    values[usable] = matrix[:, usable].mean(axis=0) - penalty * matrix[:, usable].std(axis=0)
    return values.tolist()


def member(directory: str, number: int) -> str:
    """Where in the first member's directory (number 0) the one of a number lies."""
    return f"{directory}/{_FOLDER}/{number}" if number else directory


def alone(directory: Path) -> None:
    """Make a copy of an ensemble's first member a model of its own."""
    config = model_directory.settings(directory)
    if config.pop(KEY, None) is not None:
        model_directory.write_settings(directory, config)
        shutil.rmtree(directory / _FOLDER, ignore_errors=True)


def describe(directory: Path, members: int, penalty: float) -> None:
    """Make the first of `members` reward models, the others of which lie where `member` says, their ensemble."""
    others = [f"{_FOLDER}/{number}" for number in range(1, members)]
    model_directory.write_settings(
        directory, model_directory.settings(directory) | {KEY: {"members": others, "penalty": penalty}}
    )


def described(directory: Path) -> tuple[list[Path], float]:
    """The directories of all members, this one first, and the penalty; of no ensemble, this one alone and 0.

    Raises ModelError when the directory holds no model, or a member is missing.
    """
    match model_directory.settings(directory).get(KEY):
        case None:
            return [directory], 0.0
        case {"members": [*others], "penalty": int() | float() as penalty} if all(isinstance(e, str) for e in others):
            members = [directory, *(directory / other for other in others)]
        case _:
            raise ModelError(f"{directory} holds no whole ensemble: {KEY} in its config.json needs members and penalty")
    for path in members:
        if not (path / "config.json").is_file():
            raise ModelError(f"the ensemble in {directory} has a member {path}, where there is no model")
    return members, penalty

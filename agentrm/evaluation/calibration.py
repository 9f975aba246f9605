"""From a reward model's raw values to probabilities of success, by isotonic regression on trees that were held out.

What is kept beside the model are the corners of a line that never falls, so any program can read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from agentrm.config.schema import End
from agentrm.core.errors import ModelError

FILE = "calibration.json"
"""Lies beside a model: for each of the ends at which its values are read, a `Calibration`."""

_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Calibration:
    """A line through the points (`values`, `probabilities`), both rising, constant beyond its ends."""

    values: list[float]
    probabilities: list[float]

    @classmethod
    def fit(cls, values: np.ndarray, labels: np.ndarray) -> Calibration:
        """The rising line of least squares for `labels` (N,) in [0, 1] of `values` (N,), N > 0: pool adjacent
        violators. A label between 0 and 1 is the share of episodes that succeeded.
        """
        corners, where, counts = np.unique(values, return_inverse=True, return_counts=True)
        means = np.bincount(where, np.clip(labels, 0, 1)) / counts
        blocks: list[tuple[float, int, int, int]] = []
        for place, (mean, weight) in enumerate(zip(means, counts, strict=True)):
            block = float(mean), int(weight), place, place
            while blocks and blocks[-1][0] >= block[0]:
                before, count, first, _ = blocks.pop()
                weight = count + block[1]
                block = (before * count + block[0] * block[1]) / weight, weight, first, block[3]
            blocks.append(block)
        points = [(float(corners[place]), mean) for mean, _, first, last in blocks for place in sorted({first, last})]
        return cls([value for value, _ in points], [probability for _, probability in points])

    def __call__(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """(N,) raw values to probabilities of success."""
        return np.interp(values, self.values, self.probabilities)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """The probabilities (N,) that logits stand for."""
    return 0.5 + 0.5 * np.tanh(logits / 2)


def cross_fitted(
    values: Sequence[np.ndarray], labels: Sequence[np.ndarray], tasks: Sequence[str]
) -> list[np.ndarray] | None:
    """The probabilities of each tree's `values`, by a calibration on the trees of other tasks only: how good the one on
    all of them is on tasks that it has not seen. None where all are of one task.
    """
    numbers = np.unique(np.array(tasks), return_inverse=True)[1]
    if len(numbers) == 0 or numbers.max() == 0:
        return None
    fold = numbers % min(_FOLDS, int(numbers.max()) + 1)
    fits = {}
    for left_out in set(fold.tolist()):
        kept = np.flatnonzero(fold != left_out)
        known = [np.concatenate([by_tree[index] for index in kept]) for by_tree in (values, labels)]
        if not len(known[0]):
            return None
        fits[left_out] = Calibration.fit(*known)
    return [fits[own](tree_values) for own, tree_values in zip(fold.tolist(), values, strict=True)]


def write(directory: Path, fitted: Mapping[End, Calibration]) -> None:
    """Keep calibrations beside the model in `directory`."""
    text = json.dumps({end.value: asdict(calibration) for end, calibration in fitted.items()}, indent=2)
    (directory / FILE).write_text(f"{text}\n")


def read(directory: Path) -> dict[End, Calibration]:
    """What `write` kept; {} beside a model that has none. Raises ModelError for a file that it did not write."""
    file = directory / FILE
    if not file.is_file():
        return {}
    try:
        calibrations = {End(end): Calibration(**points) for end, points in json.loads(file.read_text()).items()}
        for calibration in calibrations.values():
            calibration([0.0])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} holds no calibration: delete it, or train the reward model again") from error
    return calibrations

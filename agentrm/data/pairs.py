"""Pairs of labels, of which the better is to have the higher value, and the sequences that must be read together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

MARGIN = 0.05
"""Two labels that differ by no more than this are a tie."""


def ranked(labels: Sequence[float], groups: Sequence[Hashable]) -> np.ndarray:
    """(Q, 2) int64: the indices of the better and the worse of any two labels of one group that are no tie."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    pairs = [np.empty((0, 2), np.int64)]
    for numbers in members.values():
        indices, values = np.array(numbers), np.array([labels[index] for index in numbers])
        better, worse = np.nonzero(values[:, None] > values[None, :] + MARGIN)
        pairs.append(np.stack([indices[better], indices[worse]], axis=1))
    return np.concatenate(pairs)


def together(pairs: np.ndarray, rows: np.ndarray, lengths: Sequence[int], budget: int) -> np.ndarray:
    """(S,) which of S sequences are read at a time, each number being the first one's: those that pairs connect.

    `rows` (P,) is the sequence of each label, `lengths` (S,) in tokens. One micro-batch of `budget` tokens, padding
    included, has to hold them: pairs, in their order, that would connect more than that stay apart, but for two
    sequences that are longer.
    """
    units, sizes, longest = list(range(len(lengths))), [1] * len(lengths), list(lengths)

    def unit(row: int) -> int:
        while units[row] != row:
            units[row] = units[units[row]]
            row = units[row]
        return row

    for better, worse in rows[pairs].tolist():
        first, second = sorted((unit(better), unit(worse)))
        size, length = sizes[first] + sizes[second], max(longest[first], longest[second])
        if first != second and (size == 2 or size * length <= budget):
            units[second], sizes[first], longest[first] = first, size, length
    return np.array([unit(row) for row in range(len(lengths))], np.int64)

"""Training data as flat arrays: token sequences, and the positions where a loss reads the model.

Flat arrays go through Ray's object store without a copy and hold no Python object per token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

Ints = Sequence[int] | np.ndarray


@dataclass(frozen=True, slots=True)
class Sequences:
    """S token sequences with T tokens and P labelled positions in total.

    Sequence i is `ids[starts[i]:starts[i + 1]]`; its labels are `labels[label_starts[i]:label_starts[i + 1]]` at
    `positions` of the same range, counted from the sequence's own start. `ids` (T,) int32, `starts` (S + 1,) int64,
    `positions` (P,) int32, `labels` (P,) int64 token ids or float32 values, `label_starts` (S + 1,) int64.
    """

    ids: np.ndarray
    starts: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    label_starts: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[Ints, Ints, Ints | Sequence[float]]], labels: type) -> Sequences:
        """Build from (ids, positions, labels) per sequence; `labels` is the NumPy type of the labels."""
        ids: list[np.ndarray] = []
        positions: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        for row_ids, row_positions, row_labels in rows:
            ids.append(np.asarray(row_ids, np.int32))
            positions.append(np.asarray(row_positions, np.int32))
            targets.append(np.asarray(row_labels, labels))
        return cls(
            ids=np.concatenate([np.empty(0, np.int32), *ids]),
            starts=np.cumsum([0, *map(len, ids)], dtype=np.int64),
            positions=np.concatenate([np.empty(0, np.int32), *positions]),
            labels=np.concatenate([np.empty(0, labels), *targets]),
            label_starts=np.cumsum([0, *map(len, positions)], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(S,) tokens of each sequence."""
        return np.diff(self.starts)

    @property
    def label_counts(self) -> np.ndarray:
        """(S,) labelled positions of each sequence."""
        return np.diff(self.label_starts)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: `ids` (B, L) int64, padded on the right; `flat` (P,) int64, the labelled positions as indices
    into the B * L tokens; `labels` (P,); `tokens` is the number without padding.

    A causal model never looks to the right, so rows need no attention mask and padding changes no labelled position.
    """

    ids: torch.Tensor
    flat: torch.Tensor
    labels: torch.Tensor
    tokens: int


def collate(sequences: Sequences, members: Sequence[int], device: torch.device) -> Batch:
    """The micro-batch that holds the sequences `members`, in that order. Padding repeats token 0."""
    lengths = sequences.lengths[list(members)]
    ids = np.zeros((len(members), lengths.max()), np.int64)
    flat: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for row, index in enumerate(members):
        ids[row, : lengths[row]] = sequences.ids[sequences.starts[index] : sequences.starts[index + 1]]
        labelled = slice(sequences.label_starts[index], sequences.label_starts[index + 1])
        flat.append(sequences.positions[labelled].astype(np.int64) + row * ids.shape[1])
        labels.append(sequences.labels[labelled])
    return Batch(
        torch.from_numpy(ids).to(device),
        torch.from_numpy(np.concatenate(flat)).to(device),
        torch.from_numpy(np.concatenate(labels)).to(device),
        int(lengths.sum()),
    )

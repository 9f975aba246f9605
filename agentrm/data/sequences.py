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

    A reward model's data may have `weights` float32 of the terms of its loss, mean 1, and `reference` (T,) float32, the
    natural-log probability of each token of the agent under the reference policy, NaN at all other tokens.

    The terms are the labels, or the `pairs` (Q, 2) int64 of them where there are any: the indices of the better and of
    the worse one, in the order of the first. Then `units` (S,) int64 says which sequences must be read together.
    """

    ids: np.ndarray
    starts: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    label_starts: np.ndarray
    weights: np.ndarray | None = None
    reference: np.ndarray | None = None
    pairs: np.ndarray | None = None
    units: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[Ints, Ints, Ints | Sequence[float]]],
        labels: type,
        weights: np.ndarray | None = None,
        reference: np.ndarray | None = None,
        pairs: np.ndarray | None = None,
        units: np.ndarray | None = None,
    ) -> Sequences:
        """Build from (ids, positions, labels) per sequence; `labels` is the NumPy type of the labels. `weights` of any
        mean are scaled to mean 1.
        """
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
            weights=None if weights is None else (weights / weights.mean()).astype(np.float32),
            reference=None if reference is None else reference.astype(np.float32),
            pairs=pairs,
            units=units,
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

    def beginning(self, label: int) -> list[int]:
        """The ids up to the position of a label: what it is read from."""
        sequence = int(np.searchsorted(self.label_starts, label, side="right")) - 1
        start = self.starts[sequence]
        return self.ids[start : start + self.positions[label] + 1].tolist()

    @property
    def term_starts(self) -> np.ndarray:
        """(S + 1,) where the terms of each sequence begin; a pair is counted with the sequence of its better label."""
        return self.label_starts if self.pairs is None else np.searchsorted(self.pairs[:, 0], self.label_starts)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: `ids` (B, L) int64, padded on the right; `flat` (P,) int64, the labelled positions as indices
    into the B * L tokens; `labels` (P,), or where the sequences have pairs (Q, 2), the places in `flat` of the better
    and the worse label of each; `tokens` is the number without padding; `weights` of the P labels or Q pairs, and
    `reference` (B, L), NaN at padding, where the sequences have them; `positions` (B, L) of the tokens in their rows,
    where these are stretches of longer ones.

    A causal model never looks to the right, so rows need no attention mask, and padding changes no labelled position.
    """

    ids: torch.Tensor
    flat: torch.Tensor
    labels: torch.Tensor
    tokens: int
    weights: torch.Tensor | None = None
    reference: torch.Tensor | None = None
    positions: torch.Tensor | None = None

    @property
    def inputs(self) -> tuple[torch.Tensor | None, ...]:
        """What an objective takes."""
        return self.ids, self.flat, self.labels, self.weights, self.reference, self.positions


def collate(sequences: Sequences, members: Sequence[int], device: torch.device) -> Batch:
    """The micro-batch that holds the sequences `members`, whole units, in that order. Padding repeats token 0; without
    members it is one such token.
    """
    lengths = sequences.lengths[list(members)]
    shape = max(len(members), 1), int(lengths.max(initial=1))
    flat: list[np.ndarray] = []
    places, terms = label_places(sequences, members), _ranges(sequences.term_starts, members)
    rows: list[tuple[np.ndarray | None, np.ndarray]] = [
        (sequences.ids, np.zeros(shape, np.int64)),
        (sequences.reference, np.full(shape, np.nan, np.float32)),
    ]
    for row, index in enumerate(members):
        tokens = slice(sequences.starts[index], sequences.starts[index + 1])
        for given, padded in rows:
            if given is not None:
                padded[row, : lengths[row]] = given[tokens]
        labelled = slice(sequences.label_starts[index], sequences.label_starts[index + 1])
        flat.append(sequences.positions[labelled].astype(np.int64) + row * shape[1])

    def tensor(values: np.ndarray | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(values).to(device)

    ids, reference = (None if given is None else padded for given, padded in rows)
    return Batch(
        tensor(ids),
        tensor(np.concatenate([np.empty(0, np.int64), *flat])),
        tensor(sequences.labels[places] if sequences.pairs is None else _within(places, sequences.pairs[terms])),
        int(lengths.sum()),
        tensor(None if sequences.weights is None else sequences.weights[terms]),
        tensor(reference),
    )


def label_places(sequences: Sequences, members: Sequence[int]) -> np.ndarray:
    """The indices of the labels of some sequences, in the order of `collate`."""
    return _ranges(sequences.label_starts, members)


def _ranges(starts: np.ndarray, members: Sequence[int]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *(np.arange(starts[i], starts[i + 1]) for i in members)])


def _within(places: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Where the labels of `pairs` stand among `places`."""
    order = np.argsort(places)
    return order[np.searchsorted(places, pairs, sorter=order)].reshape(-1, 2)

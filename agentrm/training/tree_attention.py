"""Paths that begin alike, merged into trees: each shared token is in a row once, and a mask keeps branches apart.

A row holds a tree's tokens in depth-first order. `ends` are the places in the row where what follows them ends: token k
is an ancestor of token q, or q itself, just where k <= q < ends[k].
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from agentrm.errors import UserError
from agentrm.training.sequences import Sequences

_WHOLE = "full_attention"


@dataclass(slots=True)
class _Row:
    """A tree that grows by its paths in sorted order; `path` and `places` (L,): the last one's tokens, and where in the
    row these are.
    """

    bundle: int
    size: int = 0
    path: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    ids: list[np.ndarray] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    ended: list[tuple[np.ndarray, int]] = field(default_factory=list)

    def shared(self, path: np.ndarray) -> int:
        """How many of the path's first tokens are in the row already."""
        length = min(len(path), len(self.path))
        differs = np.flatnonzero(path[:length] != self.path[:length])
        return int(differs[0]) if len(differs) else length

    def add(self, path: np.ndarray, positions: np.ndarray) -> None:
        """Add a path, labelled at `positions` of its own."""
        shared = self.shared(path)
        self.ended.append((self.places[shared:], self.size))
        added = len(path) - shared
        self.places = np.concatenate([self.places[:shared], np.arange(self.size, self.size + added)])
        self.path, self.size = path, self.size + added
        self.ids.append(path[shared:])
        self.positions.append(self.places[positions].astype(np.int32))

    def ends(self) -> np.ndarray:
        """(size,) where what follows each token ends."""
        found = np.full(self.size, self.size, np.int32)
        for places, end in self.ended:
            found[places] = end
        return found


def merged(sequences: Sequences, budget: int) -> Sequences:
    """The same labels in rows of at most `budget` tokens, or of one longer path. A row is of one bundle, which
    `sequences` must have; a path that finds no room begins another row, at the root again.
    """
    assert sequences.bundles is not None and sequences.reference is None
    rows: list[_Row] = []
    order: list[np.ndarray] = []
    for bundle in np.unique(sequences.bundles).tolist():
        members = np.flatnonzero(sequences.bundles == bundle).tolist()
        paths = {i: sequences.ids[sequences.starts[i] : sequences.starts[i + 1]] for i in members}
        rows.append(_Row(bundle))
        # In sorted order a path shares most with the one before it.
        for i in sorted(members, key=lambda i: paths[i].tolist()):
            row, path = rows[-1], paths[i]
            if row.size and row.size + len(path) - row.shared(path) > budget:
                rows.append(row := _Row(bundle))
            labelled = slice(sequences.label_starts[i], sequences.label_starts[i + 1])
            row.add(path, sequences.positions[labelled])
            order.append(np.arange(labelled.start, labelled.stop))
    labels = np.concatenate(order)
    return replace(
        sequences,
        ids=np.concatenate([ids for row in rows for ids in row.ids]),
        starts=np.cumsum([0, *(row.size for row in rows)], dtype=np.int64),
        positions=np.concatenate([positions for row in rows for positions in row.positions]),
        labels=sequences.labels[labels],
        label_starts=np.cumsum([0, *(sum(map(len, row.positions)) for row in rows)], dtype=np.int64),
        weights=None if sequences.weights is None else sequences.weights[labels],
        bundles=np.array([row.bundle for row in rows], np.int32),
        ends=np.concatenate([row.ends() for row in rows]),
    )


def check(directory: Path) -> None:
    """Raise UserError unless every layer of the reward model in `directory` attends to all that a mask shows it."""
    config = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        attention = AutoModelForSequenceClassification.from_config(config).config._attn_implementation
    windows = [] if getattr(config, "sliding_window", None) is None else ["sliding_attention"]
    layers = set(getattr(config, "layer_types", None) or windows or [_WHOLE])
    if attention != "sdpa" or layers != {_WHOLE}:
        raise UserError(
            f"train.merge_paths needs full attention by sdpa in every layer, and {config.model_type} has "
            f"{', '.join(sorted(layers))} by {attention}: set it to false"
        )


def mask(ends: torch.Tensor) -> torch.Tensor:
    """`ends` (B, L): (B, 1, L, L), True where a token of the last axis is an ancestor of one before it, or itself."""
    places = torch.arange(ends.shape[1], device=ends.device)
    return ((places[None, :] <= places[:, None]) & (places[:, None] < ends[:, None, :]))[:, None]


def depths(seen: torch.Tensor) -> torch.Tensor:
    """Of a `mask`: (B, L), each token's distance from its root, which is the number of its ancestors."""
    return seen.sum(-1).squeeze(1) - 1

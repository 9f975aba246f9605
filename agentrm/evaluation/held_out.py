"""What a fit says of the trees that were kept from it, at one of the ends of turns where it learned values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from agentrm.config.schema import End, Loss
from agentrm.core.tree import Tree
from agentrm.data.states import StateSamples
from agentrm.evaluation.calibration import Calibration, cross_fitted, sigmoid
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import Predictions, quality


class HeldOut:
    """The raw `values` (P,) of all labels of `samples` that stand at `end`, learned by a `loss`; what others say of the
    same labels may stand `beside` them. The samples are of `trees`.
    """

    def __init__(
        self,
        trees: Sequence[Tree],
        samples: StateSamples,
        end: End,
        loss: Loss,
        values: Sequence[float],
        beside: Mapping[str, Sequence[float]],
    ) -> None:
        self.end = end
        self._trees = trees
        self._loss = loss

        def by_tree(given: Sequence[float]) -> list[dict[int, float]]:
            predictions: list[dict[int, float]] = [{} for _ in trees]
            for owner, value in zip(samples.owners, given, strict=True):
                if owner.at is end:
                    predictions[owner.tree][owner.node] = value
            return predictions

        self._values = by_tree(values)
        self._beside = {name: by_tree(flat) for name, flat in beside.items()}
        self._flat = [np.array([*by_node.values()], float) for by_node in self._values]
        self._labels = [
            np.array([tree.nodes[index].value for index in by_node], float)
            for tree, by_node in zip(trees, self._values, strict=True)
        ]

    def calibration(self) -> Calibration:
        """From values to probabilities of success, fitted on all trees."""
        return Calibration.fit(np.concatenate(self._flat), np.concatenate(self._labels))

    def quality(self, settings: Settings, learned: Collection[str]) -> dict[str, Any]:
        """The figures of `quality`, which takes `settings` and the kinds `learned` from."""
        chances = self._shaped(cross_fitted(self._flat, self._labels, [tree.task.id for tree in self._trees]))
        if self._loss is Loss.cross_entropy:
            estimates = self._shaped([*map(sigmoid, self._flat)])
        else:
            # Pairs say nothing of the scale.
            estimates = chances if self._loss is Loss.bradley_terry else None
        return quality(self._trees, self._values, settings, learned, self._beside, estimates=estimates, chances=chances)

    def _shaped(self, flat: Sequence[np.ndarray] | None) -> Predictions | None:
        if flat is None:
            return None
        return [
            dict(zip(by_node, values.tolist(), strict=True)) for by_node, values in zip(self._values, flat, strict=True)
        ]

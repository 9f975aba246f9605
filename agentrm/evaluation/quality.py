"""How good a reward model's values are on trees that it was not trained on, beside baselines that know nothing.

All numbers compare predicted values with the values V(s) of the trees. The accuracies compare states of one tree with
each other, which is what a search does; a tree counts once, however large it is. Episodes that end on success are
short, so length alone orders many pairs: every accuracy comes also length-matched, where length says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from agentrm.core.tree import Tree
from agentrm.data.pairs import MARGIN
from agentrm.evaluation.calibration import cross_fitted
from agentrm.evaluation.metrics import Bootstrap, Interval, Settings
from agentrm.models.baselines import PolicyLikelihood, RandomScores, ShortestFirst

MODEL = "reward model"
"""What the reward model itself predicts."""

WITH_LIKELIHOOD = f"{MODEL} + log-probability"
"""The same with the policy's log-probability added, where searches compare states by it."""

JUDGED = MODEL, WITH_LIKELIHOOD
"""The methods that are compared with every baseline."""

LIKELIHOOD = "policy log-probability"
"""The baseline that knows what the policy finds likely."""

UNSEEN = "unseen"

OF_ACTIONS = ", actions"
"""Behind a group's name: the same figures of what the model says of actions before they are answered."""

_OTHER = "other"
_BINS = 10


@dataclass(frozen=True, slots=True)
class _ValuedTree:
    """One tree: `labels`, `depths`, `parents` and `predictions[method]` (N,) of its valued states; `outcomes` (N,), NaN
    where no episode ended; `estimates` and `chances` (N,) as in `quality`.
    """

    labels: np.ndarray
    depths: np.ndarray
    parents: np.ndarray
    outcomes: np.ndarray
    predictions: Mapping[str, np.ndarray]
    estimates: np.ndarray
    chances: np.ndarray | None

    @classmethod
    def of(
        cls,
        tree: Tree,
        indices: Sequence[int],
        predictions: Mapping[str, np.ndarray],
        estimates: np.ndarray,
        chances: np.ndarray | None,
    ) -> _ValuedTree:
        """With the labels of the nodes at `indices`."""
        nodes = [tree.nodes[i] for i in indices]
        return cls(
            np.array([node.value for node in nodes]),
            np.array([node.depth for node in nodes]),
            np.array([node.parent for node in nodes]),
            np.array([np.nan if node.outcome is None else node.outcome for node in nodes]),
            predictions,
            estimates,
            chances,
        )

    def final(self, method: str, matched: bool) -> float | None:
        ended = ~np.isnan(self.outcomes)
        depths = self.depths[ended] if matched else None
        return pairwise_accuracy(self.outcomes[ended], self.predictions[method][ended], depths)


ACCURACIES: Mapping[str, Callable[[_ValuedTree, str], float | None]] = {
    "pairwise": lambda tree, method: pairwise_accuracy(tree.labels, tree.predictions[method]),
    "pairwise_equal_depth": lambda tree, method: pairwise_accuracy(tree.labels, tree.predictions[method], tree.depths),
    "siblings": lambda tree, method: pairwise_accuracy(tree.labels, tree.predictions[method], tree.parents),
    "final": lambda tree, method: tree.final(method, matched=False),
    "final_equal_depth": lambda tree, method: tree.final(method, matched=True),
}
"""Of one tree: all pairs of states, those at equal depth, those that follow one parent; the last two are the same over
finished episodes with different outcomes (the area under the ROC curve where outcomes are 0 and 1)."""


Predictions = Sequence[Mapping[int, float]]
"""Of each tree: predicted values by the indices of its nodes."""


def quality(
    trees: Sequence[Tree],
    values: Predictions,
    settings: Settings,
    learned: Collection[str],
    beside: Mapping[str, Predictions] | None = None,
    likelihood: float = 0.0,
    estimates: Predictions | None = None,
    chances: Predictions | None = None,
) -> dict[str, Any]:
    """Metrics over `all` trees, and the same for each environment and each of its kinds.

    Trees of other kinds than those that the reward model `learned` from, as ENVIRONMENT.KIND, are not in these groups
    but in their own, `unseen ENVIRONMENT` and `unseen ENVIRONMENT.KIND`.

    `values` are the reward model's; what others predict of the same states may stand `beside` it, by name. A
    `likelihood` adds what `WithLikelihood` of that weight makes of them, as WITH_LIKELIHOOD. `estimates` are
    the values on the scale of the labels, where their own is another (a logit); `chances` what a calibration takes them
    for.

    Keys of each group: `trees`, `states`; `mse` beside `mse_of_mean` (the labels' variance: always answering the mean)
    and `mse_ratio` of the two; `spearman` over all states; `auc`, `brier` and `calibration_error`, a state of label V
    being V successes and 1 - V failures, and the last two of the chances as `calibrated`; `calibration`, tenths of the
    states by estimate with the means of `predicted` and `label`; `methods`, for the reward model, those beside it and
    each baseline `spearman_within_tree` and the ACCURACIES. Intervals, `{value, low, high, trees}`, are bootstrapped
    over trees; a predicted tie counts half; a metric is None where no tree has a pair or a variance to measure it on.

    Each of JUDGED has by baseline a `lead`, its accuracies minus the baseline's, paired by tree, and `beats`: both
    leads, over all pairs and over those at equal depth, are above 0 with their whole interval; None where there are no
    such pairs.
    """
    baselines: dict[str, RandomScores | ShortestFirst | PolicyLikelihood] = {
        "random": RandomScores(settings.seed),
        # Fewer steps are better.
        "length": ShortestFirst(),
        LIKELIHOOD: PolicyLikelihood(),
    }
    groups: dict[str, list[_ValuedTree]] = defaultdict(list)
    for number, (tree, predicted) in enumerate(zip(trees, values, strict=True)):
        indices = sorted(predicted)
        if not indices:
            continue
        states = [tree.state(i) for i in indices]
        predictions = {
            name: np.array([by_tree[number][i] for i in indices])
            for name, by_tree in {MODEL: values, **(beside or {})}.items()
        }
        known = {name: np.array([baseline.value(state) for state in states]) for name, baseline in baselines.items()}
        if likelihood:
            predictions[WITH_LIKELIHOOD] = predictions[MODEL] + likelihood * known[LIKELIHOOD]
        scored = _ValuedTree.of(
            tree,
            indices,
            predictions | known,
            np.array([(values if estimates is None else estimates)[number][i] for i in indices]),
            None if chances is None else np.array([chances[number][i] for i in indices]),
        )
        names = [tree.task.environment, f"{tree.task.environment}.{tree.task.kind}"]
        for name in ["all", *names] if names[1] in learned else [f"{UNSEEN} {name}" for name in names]:
            groups[name].append(scored)
    return {name: _metrics(groups[name], settings, baselines) for name in sorted(groups)}


def leads(
    trees: Sequence[Tree], values: Predictions, others: Predictions, settings: Settings
) -> dict[str, dict[str, float | int] | None]:
    """How much better one reward model's values are than another's of the same nodes, paired by tree.

    `brier`: by how much the mean squared error of probabilities of success is lower, each model's by a calibration on
    the trees of other tasks; None where all trees are of one task. The ACCURACIES: how much higher they are. Intervals
    as in `quality`, None where no tree has a pair. Nodes without both values do not count.
    """
    both = [sorted(ours.keys() & theirs.keys()) for ours, theirs in zip(values, others, strict=True)]
    kept = [number for number, indices in enumerate(both) if indices]
    ours, theirs = ([np.array([by_tree[n][i] for i in both[n]]) for n in kept] for by_tree in (values, others))
    made = [
        _ValuedTree.of(trees[number], both[number], {MODEL: own, _OTHER: other}, own, None)
        for number, own, other in zip(kept, ours, theirs, strict=True)
    ]
    labels, tasks = [tree.labels for tree in made], [trees[number].task.id for number in kept]
    after, before = (cross_fitted(predicted, labels, tasks) for predicted in (ours, theirs))
    errors = [] if after is None or before is None else list(zip(labels, before, after, strict=True))
    figures = {"brier": _mean([brier(own, old) - brier(own, new) for own, old, new in errors], settings)}
    for name, accuracy in ACCURACIES.items():
        measured = [(accuracy(tree, MODEL), accuracy(tree, _OTHER)) for tree in made]
        figures[name] = _mean([new - old for new, old in measured if new is not None and old is not None], settings)
    return figures


def _mean(differences: Sequence[float], settings: Settings) -> dict[str, float | int] | None:
    if not differences:
        return None
    bootstrap = Bootstrap(len(differences), settings.resamples, settings.confidence, settings.seed)
    return _plain(bootstrap.mean(np.array(differences)), len(differences))


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Rank correlation of two arrays (N,), ties at their mean rank; None where either is constant."""
    ranks = np.stack([_ranks(x), _ranks(y)])
    if len(x) < 2 or np.any(ranks.std(axis=1) == 0):
        return None
    return float(np.corrcoef(ranks)[0, 1])


def pairwise_accuracy(labels: np.ndarray, predictions: np.ndarray, match: np.ndarray | None = None) -> float | None:
    """The fraction of pairs with labels more than MARGIN apart that predictions order alike; a tie counts half.

    With `match` (N,) only pairs count whose entries there are equal. None where there is no pair.
    """
    above = labels[:, None] > labels[None, :] + MARGIN
    if match is not None:
        above &= match[:, None] == match[None, :]
    if not above.any():
        return None
    difference = (predictions[:, None] - predictions[None, :])[above]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def auc(labels: np.ndarray, predictions: np.ndarray) -> float | None:
    """The area under the ROC curve of `predictions` (N,), each counted as `labels` (N,) successes and the rest of 1
    failures: the chance that a success is above a failure, a tie counting half. None without both.
    """
    _, place = np.unique(predictions, return_inverse=True)
    successes = np.bincount(place, np.clip(labels, 0, 1))
    failures = np.bincount(place) - successes
    if not successes.sum() > 0 or not failures.sum() > 0:
        return None
    below = np.cumsum(failures) - failures / 2
    return float(successes @ below / (successes.sum() * failures.sum()))


def brier(labels: np.ndarray, chances: np.ndarray) -> float:
    """The mean squared error of probabilities (N,) of success, each state counted as in `auc`."""
    return float(np.mean(labels * (1 - chances) ** 2 + (1 - labels) * chances**2))


def calibration_error(labels: np.ndarray, chances: np.ndarray) -> float:
    """The expected calibration error over tenths of the states by their probabilities (N,) of success."""
    tenths = _calibration(labels, chances)
    return sum(tenth["states"] * abs(tenth["predicted"] - tenth["label"]) for tenth in tenths) / len(labels)


def _metrics(trees: Sequence[_ValuedTree], settings: Settings, baselines: Collection[str]) -> dict[str, Any]:
    labels = np.concatenate([tree.labels for tree in trees])
    predictions = np.concatenate([tree.predictions[MODEL] for tree in trees])
    estimates = np.concatenate([tree.estimates for tree in trees])
    chances = [tree.chances for tree in trees if tree.chances is not None]

    @lru_cache
    def bootstrap(number: int) -> Bootstrap:
        return Bootstrap(number, settings.resamples, settings.confidence, settings.seed)

    def mean(measured: Sequence[float | None]) -> dict[str, float | int] | None:
        values = np.array([value for value in measured if value is not None])
        return _plain(bootstrap(len(values)).mean(values), len(values)) if len(values) else None

    def ratio(room: Sequence[float]) -> dict[str, float | int] | None:
        errors = np.array([np.sum((tree.estimates - tree.labels) ** 2) for tree in trees])
        interval = bootstrap(len(trees)).share(errors, np.array(room, float))
        return None if np.isnan(interval.value) else _plain(interval, len(trees))

    accuracies = {
        method: {name: [accuracy(tree, method) for tree in trees] for name, accuracy in ACCURACIES.items()}
        for method in trees[0].predictions
    }

    def compared(method: str) -> dict[str, Any]:
        lead = {
            baseline: {
                name: mean(
                    [
                        None if ours is None or theirs is None else ours - theirs
                        for ours, theirs in zip(accuracies[method][name], accuracies[baseline][name], strict=True)
                    ]
                )
                for name in ACCURACIES
            }
            for baseline in baselines
        }
        return {"lead": lead, "beats": {baseline: _decided(led) for baseline, led in lead.items()}}

    return {
        "trees": len(trees),
        "states": len(labels),
        "mse": ratio([len(tree.labels) for tree in trees]),
        "mse_of_mean": float(labels.var()),
        "mse_ratio": ratio([np.sum((tree.labels - labels.mean()) ** 2) for tree in trees]),
        "spearman": spearman(labels, predictions),
        "auc": auc(labels, predictions),
        **_as_probabilities(labels, estimates),
        "calibrated": _as_probabilities(labels, np.concatenate(chances)) if chances else None,
        "methods": {
            method: {
                "spearman_within_tree": mean([spearman(tree.labels, tree.predictions[method]) for tree in trees]),
                **{name: mean(measured) for name, measured in accuracies[method].items()},
                **(compared(method) if method in JUDGED else {}),
            }
            for method in accuracies
        },
        "calibration": _calibration(labels, estimates),
    }


def _as_probabilities(labels: np.ndarray, estimates: np.ndarray) -> dict[str, float]:
    chances = np.clip(estimates, 0, 1)
    return {"brier": brier(labels, chances), "calibration_error": calibration_error(labels, chances)}


def _decided(lead: Mapping[str, dict[str, float | int] | None]) -> bool | None:
    over_all, equal_depth = lead["pairwise"], lead["pairwise_equal_depth"]
    if over_all is None or equal_depth is None:
        return None
    return over_all["low"] > 0 and equal_depth["low"] > 0


def _plain(interval: Interval, trees: int) -> dict[str, float | int]:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "trees": trees}


def _calibration(labels: np.ndarray, predictions: np.ndarray) -> list[dict[str, float | int]]:
    order = np.argsort(predictions, kind="stable")
    return [
        {
            "predicted": float(predictions[members].mean()),
            "label": float(labels[members].mean()),
            "states": len(members),
        }
        for members in np.array_split(order, min(_BINS, len(order)))
    ]


def _ranks(x: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]

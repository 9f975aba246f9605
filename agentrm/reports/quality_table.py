"""The quality figures of `quality` as rows of text: what the report and the command line show of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentrm.evaluation.quality import ACCURACIES, JUDGED, MODEL, OF_ACTIONS, UNSEEN

HEADINGS = ("trees", "method", *(name.replace("_", " ") for name in ACCURACIES), "error / variance", "beats")


def rows(quality: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row per environment and method, in HEADINGS; the figures of single kinds stay in the JSON."""
    seen = [name for name in quality if not name.startswith(UNSEEN) and not name.endswith(OF_ACTIONS)]
    alone = sum("." not in name for name in seen) <= 2
    for name, group in quality.items():
        if "." in name or (_is_of_all(name) and alone):
            continue
        for method, figures in group["methods"].items():
            beaten = figures.get("beats")
            yield (
                f"{name} ({group['trees']})",
                method,
                *(_interval(figures[accuracy]) for accuracy in ACCURACIES),
                _interval(group["mse_ratio"]) if method == MODEL else "",
                "" if beaten is None else _beaten(beaten),
            )


def verdicts(quality: Mapping[str, Any]) -> list[str]:
    """One sentence per environment where what searches compare is not shown to be better than every baseline."""
    sentences = []
    for name, group in quality.items():
        method = [method for method in JUDGED if method in group["methods"]][-1]
        beats = group["methods"][method].get("beats", {})
        better = [baseline for baseline, beaten in beats.items() if beaten is False]
        if better and is_of_environment(name):
            sentences.append(
                f"On the held-out trees of {name} the {method} is not shown to beat {', '.join(better)}: "
                "distrust what it gains there."
            )
    return sentences


def probabilities(quality: Mapping[str, Any]) -> Iterator[str]:
    """One sentence per environment on how well values tell success from failure, and of what use they are as
    probabilities.
    """
    for name, group in quality.items():
        if is_of_environment(name) and group.get("auc") is not None:
            calibrated = group["calibrated"]
            yield (
                f"{name}: area under the ROC curve {group['auc']:.3f}, {_as_probabilities(group)}"
                + (f"; calibrated on other tasks {_as_probabilities(calibrated)}." if calibrated else ".")
            )


def is_judged(row: Sequence[str]) -> bool:
    """Whether one of `rows` is the reward model's, alone or with the log-probability, and no baseline's."""
    return row[1] in JUDGED


def _as_probabilities(group: Mapping[str, Any]) -> str:
    return f"Brier score {group['brier']:.3f}, expected calibration error {group['calibration_error']:.3f}"


def _is_of_all(name: str) -> bool:
    return name.removesuffix(OF_ACTIONS) == "all"


def is_of_environment(name: str) -> bool:
    """Whether a group of `quality` is that of one environment, rather than of a kind or of all."""
    return "." not in name and not _is_of_all(name)


def _beaten(beats: Mapping[str, bool | None]) -> str:
    if None in beats.values():
        return "–"
    return "all" if all(beats.values()) else ", ".join(name for name, beaten in beats.items() if beaten) or "none"


def _interval(figure: Mapping[str, float] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"

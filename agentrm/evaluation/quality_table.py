"""The quality figures of `quality` as rows of text: what the report and the command line show of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentrm.evaluation.quality import ACCURACIES, LENGTH, MODEL, UNSEEN

HEADINGS = ("trees", "method", *(name.replace("_", " ") for name in ACCURACIES), "error / variance", "beats length")


def rows(quality: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row per environment and method, in HEADINGS; the figures of single kinds stay in the JSON."""
    alone = sum("." not in name and not name.startswith(UNSEEN) for name in quality) <= 2
    for name, group in quality.items():
        if "." in name or (name == "all" and alone):
            continue
        for method, figures in group["methods"].items():
            judged = method == MODEL
            yield (
                f"{name} ({group['trees']})",
                method,
                *(_interval(figures[accuracy]) for accuracy in ACCURACIES),
                _interval(group["mse_ratio"]) if judged else "",
                {True: "yes", False: "no", None: "–"}[group["beats_length"]] if judged else "",
            )


def verdicts(quality: Mapping[str, Any]) -> list[str]:
    """One sentence per environment whose reward model is not shown to be better than counting steps."""
    return [
        f"On the held-out trees of {name} the {MODEL} is not shown to beat {LENGTH} (fewer steps are better): "
        "distrust what it gains there."
        for name, group in quality.items()
        if "." not in name and name != "all" and group["beats_length"] is False
    ]


def _interval(figure: Mapping[str, float] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"

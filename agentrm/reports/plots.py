"""The report's figures as inline SVG whose text and lines take the page's colour, so they suit light and dark pages."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle, pairwise
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from agentrm.evaluation.metrics import BASELINE, CEILING, GREEDY, is_check, rivals
from agentrm.reports.quality_table import is_of_environment

Row = Mapping[str, object]

_WITHOUT = (GREEDY, "judge")
# Of all figures: replaced by the page's own colours once a figure is text, or by these where it is a file of its own.
INK, FAINT = "#010203", "#040506"
_DARK, _LINE = "#0f172a", "#cbd5e1"
_SCORED, _BASELINE, _CEILING = "#3b82f6", "#94a3b8", "#f59e0b"
_SERIES = (_SCORED, _CEILING, "#10b981", "#8b5cf6")
_LABEL = 0.14
"""Inches that a label takes in a figure."""
_WIDEST = 32
"""Characters of a label beside a panel."""
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "agentrm",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
}


def uses_reward_model(method: str) -> bool:
    """Whether the trained reward model chose in this method: in every search but these."""
    return not method.startswith(_WITHOUT) and not is_check(method)


def colour(method: str) -> str:
    """Blue where the reward model chose, amber for the oracle, grey for every baseline."""
    if uses_reward_model(method):
        return _SCORED
    return _CEILING if method.startswith(CEILING) else _BASELINE


@mpl.rc_context(STYLE)
def outcome_bars(groups: Mapping[str, Sequence[Row]]) -> str:
    """Mean outcome with its interval, one panel per group and one bar per method."""
    labels = {name: [_lines(str(row["method"])) for row in rows] for name, rows in groups.items()}
    figure, axes = _panels(groups, height=_height(labels.values(), 0.32))
    for axis, (name, rows) in zip(axes, groups.items(), strict=True):
        _bars(axis, labels[name], rows)
        _label(axis, name, rows)
    axes[0].invert_yaxis()
    return svg(figure)


@mpl.rc_context(STYLE)
def headline_bars(groups: Mapping[str, Sequence[Row]]) -> str:
    """One panel per group of `metrics.summarise` rows: one answer, the best of what needs no reward model, the methods
    in which it chooses, and the oracle's choice.
    """
    told = {name: _headline(rows) for name, rows in groups.items()}
    labels = {name: [_lines(label) for label, _ in rows] for name, rows in told.items()}
    figure, axes = _panels(groups, height=_height(labels.values(), 0.38), shared=False)
    for axis, (name, rows) in zip(axes, told.items(), strict=True):
        places = range(len(rows))
        _bars(axis, places, [row for _, row in rows])
        axis.set_yticks(places, labels[name])
        axis.invert_yaxis()
        _label(axis, name, groups[name])
    return svg(figure)


def _bars(axis: Axes, places: Sequence[str] | Sequence[int], rows: Sequence[Row]) -> None:
    """The mean outcomes of rows with their intervals."""
    values = [_number(row, "outcome") for row in rows]
    errors = [
        [value - _number(row, "outcome_low") for value, row in zip(values, rows, strict=True)],
        [_number(row, "outcome_high") - value for value, row in zip(values, rows, strict=True)],
    ]
    axis.barh(places, values, color=[colour(str(row["method"])) for row in rows], height=0.62)
    axis.errorbar(values, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)


def _lines(label: str) -> str:
    """A label of a bar, as wide as a panel can spare."""
    return "\n".join(fill(line, _WIDEST) for line in label.splitlines())


def _height(labels: Collection[Sequence[str]], bar: float) -> float:
    """Inches of panels whose bars take so many each, or as many as the longest of their labels has lines."""
    most = max((label.count("\n") + 1 for panel in labels for label in panel), default=0)
    return 0.6 + max(bar, _LABEL * most + 0.1) * max(map(len, labels))


def _label(axis: Axes, group: str, rows: Sequence[Row]) -> None:
    axis.set_title(f"{group}\n({rows[0]['tasks']} tasks)", loc="left")
    axis.set_xlim(0, 1)
    axis.set_xlabel("mean outcome")
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    axis.tick_params(left=False)


def _headline(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """The few rows of a group that tell the most, each with its label; the rivals' best is the highest of them all."""
    by_name = {str(row["method"]): row for row in rows}
    chosen = [name for name in by_name if uses_reward_model(name)]
    without = [rival for name in chosen for rival in rivals(name, list(by_name))]
    without = without or [name for name in by_name if not name.startswith(CEILING)]
    best = max(without, key=lambda name: _number(by_name[name], "outcome"), default=None)
    headline = [("one answer", by_name[BASELINE])] if BASELINE in by_name else []
    headline += [(f"best without:\n{best}", by_name[best])] if best is not None and best != BASELINE else []
    headline += [(name, by_name[name]) for name in chosen]
    return headline + [(name, row) for name, row in by_name.items() if name.startswith(CEILING)]


def standalone(figure: str) -> str:
    """A figure as a file of its own, dark on white: it has no page to take colours from."""
    drawn = figure.replace("currentColor", _DARK).replace("var(--line)", _LINE)
    return drawn.replace("<svg ", '<svg style="background: white" ', 1)


@mpl.rc_context(STYLE)
def outcome_against_tokens(groups: Mapping[str, Sequence[Row]]) -> str:
    """Mean outcome over the policy's tokens per task; further left and higher is better. The oracle is no method."""
    height = max(2.6, 0.2 * max(len(rows) for rows in groups.values()))
    figure, axes = _panels(groups, height=height)
    for axis, (name, rows) in zip(axes, groups.items(), strict=True):
        chosen = [row for row in rows if not str(row["method"]).startswith(CEILING)]
        reach = max(_number(row, "policy_tokens") for row in chosen)
        places = _apart([_number(row, "outcome") for row in chosen], _LABEL / height)
        for row, place in zip(chosen, places, strict=True):
            method = str(row["method"])
            tokens, outcome = _number(row, "policy_tokens"), _number(row, "outcome")
            axis.scatter(tokens, outcome, color=colour(method), s=36, zorder=3)
            label = axis.annotate(method, (tokens + 0.04 * reach, place), fontsize=8, va="center")
            # Room for a long name beside the panel would leave the panel none.
            label.set_in_layout(False)
        axis.set_title(name, loc="left")
        axis.set_ylim(0, 1)
        axis.set_xlim(0, 1.9 * reach)
        axis.set_xlabel("policy tokens per task")
        axis.grid()
        axis.set_axisbelow(True)
    axes[0].set_ylabel("mean outcome")
    return svg(figure)


@mpl.rc_context(STYLE)
def outcome_lines(groups: Mapping[str, Mapping[str, Sequence[Row]]], column: str, label: str) -> str:
    """Mean outcome with its interval over a column of positive numbers, one panel per group, one line per series."""
    figure, axes = _panels(groups, height=2.8)
    for axis, (name, series) in zip(axes, groups.items(), strict=True):
        places = sorted({_number(row, column) for rows in series.values() for row in rows})
        for (title, rows), line in zip(series.items(), cycle(_SERIES), strict=False):
            ordered = sorted(rows, key=lambda row: _number(row, column))
            values = [_number(row, "outcome") for row in ordered]
            errors = [
                [value - _number(row, "outcome_low") for value, row in zip(values, ordered, strict=True)],
                [_number(row, "outcome_high") - value for value, row in zip(values, ordered, strict=True)],
            ]
            numbers = [_number(row, column) for row in ordered]
            axis.errorbar(numbers, values, yerr=errors, color=line, marker="o", capsize=2.5, label=title)
        axis.set_xscale("log", base=2)
        axis.set_xticks(places[:: max(1, len(places) // 6)], minor=False)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.tick_params(axis="x", labelrotation=45)
        axis.set_title(name, loc="left")
        axis.set_ylim(0, 1)
        axis.set_xlabel(label)
        axis.grid()
        axis.set_axisbelow(True)
    axes[0].set_ylabel("mean outcome")
    axes[0].legend(frameon=False, fontsize=8)
    return svg(figure)


@mpl.rc_context(STYLE)
def heat_maps(maps: Mapping[str, Mapping[tuple[str, str], float]], down: str, across: str) -> str:
    """One panel per map of {(row, column): value}, every value written down: blue above 0, amber below, all panels in
    one scale.
    """
    rows_of = {name: list(dict.fromkeys(row for row, _ in cells)) for name, cells in maps.items()}
    columns = list(dict.fromkeys(column for cells in maps.values() for _, column in cells))
    figure, axes = _panels(maps, height=1.4 + 0.35 * max(map(len, rows_of.values())), shared=False)
    most = max((abs(value) for cells in maps.values() for value in cells.values()), default=0.0) or 1.0
    for axis, (name, cells) in zip(axes, maps.items(), strict=True):
        rows = rows_of[name]
        for (row, column), value in cells.items():
            x, y = columns.index(column), rows.index(row)
            hue = _SCORED if value > 0 else _CEILING
            axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, color=hue, alpha=0.75 * abs(value) / most))
            axis.text(x, y, f"{value:+.2f}", ha="center", va="center", fontsize=8)
        axis.set_xticks(range(len(columns)), columns, rotation=35, ha="right")
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xlim(-0.5, len(columns) - 0.5)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_title(name, loc="left")
        axis.set_xlabel(across)
    axes[0].set_ylabel(down)
    return svg(figure)


@mpl.rc_context(STYLE)
def loss_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """One panel per training: the loss of each step, faint, and its running mean."""
    figure, axes = _panels(curves, height=2.2, shared=False)
    for axis, (name, points) in zip(axes, curves.items(), strict=True):
        steps = [step for step, _ in points]
        losses = [loss for _, loss in points]
        axis.plot(steps, losses, color=_BASELINE, linewidth=0.8)
        axis.plot(steps, _running_mean(losses), color=_SCORED, linewidth=1.8)
        axis.set_title(name, loc="left")
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        axis.grid()
        axis.set_axisbelow(True)
    axes[0].set_ylabel("loss")
    return svg(figure)


@mpl.rc_context(STYLE)
def calibration_curves(quality: Mapping[str, Mapping[str, Any]]) -> str:
    """One panel per environment of `quality.quality`: mean label over mean prediction of each tenth of the states."""
    groups = {name: group["calibration"] for name, group in quality.items() if is_of_environment(name)}
    figure, axes = _panels(groups, height=2.6)
    for axis, (name, points) in zip(axes, groups.items(), strict=True):
        axis.axline((0, 0), slope=1, color=FAINT, linewidth=1)
        axis.plot([p["predicted"] for p in points], [p["label"] for p in points], color=_SCORED, marker="o")
        axis.set_title(name, loc="left")
        axis.set_xlabel("predicted value")
        axis.grid()
        axis.set_axisbelow(True)
    axes[0].set_ylabel("value in the tree")
    return svg(figure)


def _panels(names: Mapping[str, object], height: float, shared: bool = True) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(1.6 + 3.0 * len(names), height + 0.5), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(1, len(names), squeeze=False, sharey=shared)[0]
    for axis in axes:
        axis.patch.set_alpha(0)
    return figure, axes


def _number(row: Row, column: str) -> float:
    value = row[column]
    assert isinstance(value, float)
    return value


def _apart(values: Sequence[float], gap: float) -> list[float]:
    """The values, moved up where needed so that no two labels at them are closer than `gap`."""
    places = list(values)
    order = sorted(range(len(values)), key=lambda i: values[i])
    for lower, upper in pairwise(order):
        places[upper] = max(places[upper], places[lower] + gap)
    return places


def _running_mean(values: Sequence[float]) -> list[float]:
    width = max(1, math.ceil(len(values) / 40))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    bounds = [(max(0, i - width + 1), i + 1) for i in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in bounds]


def svg(figure: Figure) -> str:
    """A figure as inline SVG whose ink and lines are the page's."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor").replace(FAINT, "var(--line)")

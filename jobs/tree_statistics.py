"""What the trees of a run hold, per environment and split.

    python -m jobs.tree_statistics --preset quickstart

It reads storage alone: no cluster, no model.
"""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from agentrm.config.schema import Config
from agentrm.data.statistics import BINS, Statistics, statistics
from agentrm.data.trees import TreeStore
from agentrm.run import RunDirectory
from jobs.runtime import main

_BARS = " ▁▂▃▄▅▆▇█"


def run(config: Config) -> dict[str, Statistics]:
    """Print the statistics; returns them by "environment, split"."""
    found = statistics(TreeStore(RunDirectory.open(config).require("trees", "trees")))
    show(found, Console(highlight=False))
    return found


def show(found: dict[str, Statistics], console: Console) -> None:
    """One column per environment and split, and the histogram of the states' values."""
    table = Table("", *found, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, read in (
        ("trees", lambda each: f"{each.trees:,}"),
        ("rollouts per tree", lambda each: f"{each.rollouts / each.trees:.1f}"),
        ("states", lambda each: f"{each.states:,}"),
        ("visits per label", lambda each: f"{each.visits / max(each.states, 1):.2f}"),
        ("labels of several visits", lambda each: f"{each.revisited / max(each.states, 1):.0%}"),
        ("trees that branch below the root", lambda each: f"{each.deep / each.trees:.0%}"),
        ("depth of selection, mean of the deepest", lambda each: f"{each.deepest / each.trees:.1f}"),
        (
            "nodes selected, by depth",
            lambda each: " ".join(str(each.branching[d]) for d in range(1 + max(each.branching, default=0))),
        ),
        ("iterations", lambda each: f"{each.iterations:,}"),
        ("episodes graded", lambda each: f"{each.episodes:,}"),
        ("rollouts cut and estimated", lambda each: f"{each.estimates:,}"),
        ("mean value of the roots", lambda each: f"{each.root_values / each.trees:.3f}"),
        ("duplicate turns merged", lambda each: f"{each.duplicates:,}"),
        ("malformed actions", lambda each: f"{each.malformed:,}"),
        ("turns cut or cleaned", lambda each: f"{each.cleaned:,}"),
        ("policy tokens", lambda each: f"{each.policy_tokens:,}"),
        ("environment steps", lambda each: f"{each.environment_steps:,}"),
        ("environment errors", lambda each: f"{each.environment_errors:,}"),
        ("engine errors", lambda each: f"{each.engine_errors:,}"),
        ("ended by", lambda each: ", ".join(f"{why} {count:,}" for why, count in sorted(each.ended_by.items()))),
    ):
        table.add_row(name, *(read(each) for each in found.values()))
    for low in range(BINS):
        label = f"value {low / BINS:.1f} to {(low + 1) / BINS:.1f}"
        table.add_row(label, *(_share(each, low) for each in found.values()))
    console.print(table)


def _share(each: Statistics, low: int) -> str:
    share = each.values[low] / max(each.states, 1)
    return f"{_BARS[round(share * (len(_BARS) - 1))]} {share:6.1%}"


if __name__ == "__main__":
    main(run)

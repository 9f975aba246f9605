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
    by_split = statistics(
        TreeStore(RunDirectory.open(config).require("trees", "trees")), config.train.labels.min_visits
    )
    show(by_split, Console(highlight=False))
    return by_split


def show(by_split: dict[str, Statistics], console: Console) -> None:
    """One column per environment and split, and the histogram of the states' values."""
    table = Table("", *by_split, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, read in (
        ("trees", lambda split: f"{split.trees:,}"),
        ("rollouts per tree", lambda split: f"{split.rollouts / split.trees:.1f}"),
        ("states", lambda split: f"{split.states:,}"),
        ("labels", lambda split: f"{split.labels:,}"),
        ("visits per label", lambda split: f"{split.visits / max(split.labels, 1):.2f}"),
        ("labels of several visits", lambda split: f"{split.revisited / max(split.labels, 1):.0%}"),
        ("trees that branch below the root", lambda split: f"{split.deep / split.trees:.0%}"),
        ("depth of selection, mean of the deepest", lambda split: f"{split.deepest / split.trees:.1f}"),
        (
            "nodes selected, by depth",
            lambda split: " ".join(str(split.branching[d]) for d in range(1 + max(split.branching, default=0))),
        ),
        ("iterations", lambda split: f"{split.iterations:,}"),
        ("episodes graded", lambda split: f"{split.episodes:,}"),
        ("rollouts cut and estimated", lambda split: f"{split.estimates:,}"),
        ("mean value of the roots", lambda split: f"{split.root_values / split.trees:.3f}"),
        ("duplicate turns merged", lambda split: f"{split.duplicates:,}"),
        ("malformed actions", lambda split: f"{split.malformed:,}"),
        ("turns cut or cleaned", lambda split: f"{split.cleaned:,}"),
        ("policy tokens", lambda split: f"{split.policy_tokens:,}"),
        ("environment steps", lambda split: f"{split.environment_steps:,}"),
        ("environment errors", lambda split: f"{split.environment_errors:,}"),
        ("engine errors", lambda split: f"{split.engine_errors:,}"),
        ("ended by", lambda split: ", ".join(f"{why} {count:,}" for why, count in sorted(split.ended_by.items()))),
    ):
        table.add_row(name, *(read(split) for split in by_split.values()))
    for low in range(BINS):
        label = f"value {low / BINS:.1f} to {(low + 1) / BINS:.1f}"
        table.add_row(label, *(_share(split, low) for split in by_split.values()))
    console.print(table)


def _share(split: Statistics, low: int) -> str:
    share = split.values[low] / max(split.states, 1)
    return f"{_BARS[round(share * (len(_BARS) - 1))]} {share:6.1%}"


if __name__ == "__main__":
    main(run)

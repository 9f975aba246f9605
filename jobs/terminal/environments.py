"""The table of environments in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from agentrm.core.task import SPLITS
from agentrm.environments.catalogue import Description


def environment_table(rows: list[Description]) -> Table:
    """The descriptions in Markdown, with the measured columns where a row has them."""
    measured = any("step_ms" in row for row in rows)
    figures = ("first reset ms", "reset ms", "step ms", "KB a session", "oracle solves") if measured else ()
    shown = Table("name", "kinds", *SPLITS, "restore", "installed", *figures, box=box.MARKDOWN)
    for row in rows:
        tasks = [f"{row['tasks'][split]:,}" for split in SPLITS]
        installed = "yes" if row["installed"] else "no"
        shown.add_row(row["name"], str(len(row["kinds"])), *tasks, row["restore"], installed, *_figures(row))
    return shown


def _figures(row: Description) -> list[str]:
    if "step_ms" not in row:
        return []
    times = [f"{value:.3g}" for value in (row["first_reset_ms"], row["reset_ms"], row["step_ms"])]
    solved = round(row["oracle_success"] * row["measured_tasks"])
    return [*times, f"{row['session_bytes'] / 1000:,.1f}", f"{solved} of {row['measured_tasks']}"]

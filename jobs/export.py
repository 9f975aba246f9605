"""Writing the trees of a run for other tools: `agentrm export RUN --as FORM --to DIRECTORY`."""

from __future__ import annotations

from agentrm import storage
from agentrm.data.trees import TreeStore
from agentrm.episodes.export.writing import write
from agentrm.run import RunDirectory


def run(location: storage.Location, form: str, directory: storage.Location) -> str:
    """Write the trees; returns what was written, in one line. Raises UserError as `write` does, and without trees."""
    store = TreeStore(RunDirectory.existing(location).require("trees", "trees"))
    counts = write(store.trees(), form, directory)
    told = ", ".join(f"{count} of {split}" for split, count in sorted(counts.items()))
    return f"{counts.total()} rows ({told}) are in {directory}"

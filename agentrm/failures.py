"""Tasks that their environment failed, kept in the run directory: none is tried for ever, and a run can finish."""

from __future__ import annotations

import json

from agentrm import storage
from agentrm.core.task import Task

ATTEMPTS = 3
"""How often a task is tried before it counts as failed by its environment."""


class Failures:
    """`<task id>.json` in a folder for each task that failed: `attempts` so far, of all runs, and the last `error`.

    Deleting the folder lets them be tried again.
    """

    def __init__(self, location: storage.Location) -> None:
        self._location = location
        names = (name for name in storage.names(location) if name.endswith(".json") and not name.startswith("."))
        self._found = {
            name.removesuffix(".json"): json.loads(storage.read_text(f"{location}/{name}") or "{}") for name in names
        }

    def record(self, task: Task, error: str) -> None:
        """Store one more failed attempt."""
        attempts = self._found.get(task.id, {}).get("attempts", 0) + 1
        self._found[task.id] = {"attempts": attempts, "error": error}
        storage.write_text(f"{self._location}/{task.id}.json", json.dumps(self._found[task.id]))

    @property
    def given_up(self) -> dict[str, str]:
        """The last error of each task that is not tried again, by its id."""
        return {
            name: failure["error"] for name, failure in self._found.items() if failure.get("attempts", 0) >= ATTEMPTS
        }

    def told(self) -> str:
        """One line about the tasks that are not tried again."""
        first = next(iter(self.given_up.values()))
        return (
            f"{len(self.given_up)} tasks count as failed by their environment, which failed them {ATTEMPTS} times: "
            f"{first}; delete {self._location} to try them again"
        )

"""What the three toolkits of ToolQuery share: they read one database that no call changes, and end with an answer."""

from __future__ import annotations

from agentrm.environments.tools.database import Database
from agentrm.environments.tools.toolkit import Toolkit, tool


class QueryToolkit(Toolkit):
    """Tools over a database; `loaded` names what the agent has loaded, the only thing that calls change."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.loaded: frozenset[str] = frozenset()

    @tool
    def finish(self, answer: str | float | list[str | float]) -> str:
        """end the task with your answer: a number without unit, a text, or a list of them"""
        return "The answer is handed in."

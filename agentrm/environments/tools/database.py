"""An embedded SQLite database in memory, whose whole state is one value."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

# Small pages: a world has a few hundred rows, and its image is kept in every snapshot.
_PAGE_BYTES = 1024


class Database:
    """One connection; `save` and `load` take and give the whole database as bytes."""

    def __init__(self, schema: str = "") -> None:
        # Whoever owns the environment calls it from one thread at a time, but perhaps not always the same one.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._connection.executescript(schema)

    def insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        rows = list(rows)
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._connection.execute("BEGIN")
            self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
            self._connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The answer to a query, a row a dict by column."""
        cursor = self._connection.execute(query, values)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def column(self, query: str, *values: Any) -> list[Any]:
        """The first column of the answer to a query."""
        return [row[0] for row in self._connection.execute(query, values)]

    def execute(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)

    def save(self) -> bytes:
        return self._connection.serialize()

    def load(self, image: bytes) -> None:
        self._connection.deserialize(image)

    def close(self) -> None:
        self._connection.close()

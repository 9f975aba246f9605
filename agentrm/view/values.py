"""The reward model's values of states of trees and episodes, one after the other when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Event
from typing import Any

from agentrm import storage
from agentrm.core.state import State
from agentrm.core.tree import Tree

Values = list[float | None]


class Valuer:
    """Values by plain transformers in a thread of its own; what is computed is kept in memory."""

    def __init__(self, directory: storage.Location, context: int) -> None:
        self._directory = directory
        self._context = context
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="values")
        self._closed = Event()
        self._values: dict[str, Values] = {}
        self._failures: dict[str, str] = {}

    def begin(self, name: str, tree: Tree, nodes: Sequence[int]) -> None:
        """Value some nodes of a tree, which the page calls `name`, unless that is done or under way; what failed is
        tried again.
        """
        values: Values = []
        if self._values.setdefault(name, values) is values:
            self._failures.pop(name, None)
            self._thread.submit(self._run, name, tree, nodes, values)

    def state(self, name: str) -> dict[str, Any]:
        """`available`: whether there is a reward model by now; `asked`: whether what has this name is being valued or
        has been; `values` of its first nodes, as many as are computed, None for one that exceeds the model's context;
        `error`: why that failed, or "".
        """
        return {
            "available": "config.json" in storage.names(self._directory),
            "asked": name in self._values,
            "values": list(self._values.get(name, ())),
            "error": self._failures.get(name, ""),
        }

    def close(self) -> None:
        """Stop after the value that is being computed."""
        self._closed.set()
        self._thread.shutdown(cancel_futures=True)

    def _run(self, name: str, tree: Tree, nodes: Sequence[int], values: Values) -> None:
        try:
            for index in nodes:
                if self._closed.is_set():
                    return
                values.append(self._value(tree.state(index)))
        except Exception as error:  # Nobody waits for this thread: the page has to be told whatever it was.
            self._failures[name] = next(iter(str(error).splitlines()), type(error).__name__)
            del self._values[name]

    @cached_property
    def _value(self) -> Callable[[State], float | None]:
        # Most looks at a run need no model, and torch takes seconds to import.
        from agentrm.models.plain import load

        return load(storage.fetch(self._directory), self._context)

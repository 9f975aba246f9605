"""The reward model's values of a tree's states, computed when they are asked for, one tree after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
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

    def begin(self, tree: Tree) -> None:
        """Value a tree's nodes, unless that is done or under way; what failed is tried again."""
        values: Values = []
        if self._values.setdefault(tree.id, values) is values:
            self._failures.pop(tree.id, None)
            self._thread.submit(self._run, tree, values)

    def state(self, tree_id: str) -> dict[str, Any]:
        """`available`: whether there is a reward model by now; `asked`: whether the tree is being valued or
        has been; `values` of its first nodes, as many as are computed, None for one that exceeds the model's context;
        `error`: why that failed, or "".
        """
        return {
            "available": "config.json" in storage.names(self._directory),
            "asked": tree_id in self._values,
            "values": list(self._values.get(tree_id, ())),
            "error": self._failures.get(tree_id, ""),
        }

    def close(self) -> None:
        """Stop after the value that is being computed."""
        self._closed.set()
        self._thread.shutdown(cancel_futures=True)

    def _run(self, tree: Tree, values: Values) -> None:
        try:
            for index in range(len(tree.nodes)):
                if self._closed.is_set():
                    return
                values.append(self._value(tree.state(index)))
        except Exception as error:  # Nobody waits for this thread: the page has to be told whatever it was.
            self._failures[tree.id] = next(iter(str(error).splitlines()), type(error).__name__)
            del self._values[tree.id]

    @cached_property
    def _value(self) -> Callable[[State], float | None]:
        return load(storage.fetch(self._directory), self._context)


def load(directory: Path, context: int) -> Callable[[State], float | None]:
    """The value of one state, of an ensemble together. Raises ModelError when the directory holds no whole reward
    model.
    """
    from agentrm.models.ensemble import described, lower_confidence

    members, penalty = described(directory)
    valued = [_load(each, context) for each in members]

    def together(state: State) -> float | None:
        values = [value(state) for value in valued]
        (found,) = lower_confidence([[-inf if each is None else each] for each in values], penalty)
        return found if isfinite(found) else None

    return together


def _load(directory: Path, context: int) -> Callable[[State], float | None]:
    # Most looks at a run need no model, and torch takes seconds to import.
    import asyncio

    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    from agentrm.core.errors import ContextOverflow
    from agentrm.model_directory import IMPLICIT, settings
    from agentrm.models import explicit, implicit
    from agentrm.rendering.renderer import Renderer

    logging.disable_progress_bar()
    if IMPLICIT in settings(directory):
        ratio = implicit.load(directory, context)

        def trajectory(state: State) -> float | None:
            (value,) = asyncio.run(ratio.score([state]))
            return value if isfinite(value) else None

        return trajectory

    explicit.check(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype="auto").eval()
    renderer = Renderer.from_pretrained(directory, context)

    def head(state: State) -> float | None:
        with suppress(ContextOverflow):
            (value,) = explicit.score(model, [renderer.ids(state.messages())])
            return value
        return None

    return head

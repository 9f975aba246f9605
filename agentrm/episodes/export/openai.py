"""Rows of OpenAI's chat messages, with the outcome, and all that makes the tree again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agentrm.core.tree import Tree
from agentrm.episodes.exact import described
from agentrm.episodes.export.episodes import episodes


def rows(trees: list[Tree]) -> Iterator[dict[str, Any]]:
    """A row per episode of a task's trees."""
    for tree in trees:
        for each in episodes(tree):
            row = (
                {"messages": each.messages(), "tools": list(tree.tools)}
                if tree.tools
                else {"messages": each.messages()}
            )
            yield row | {
                "outcome": each.outcome,
                "task": tree.task.id,
                "id": each.id,
                "model": each.model,
                # As text, for a table has one type to a column.
                "agentrm": json.dumps(described(tree, each.path), ensure_ascii=False),
            }

"""Rows of OpenAI's chat messages, with the outcome, and all that makes the tree again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agentrm.core.tree import Tree
from agentrm.episodes.exact import described
from agentrm.episodes.export.card import MESSAGES, Feature
from agentrm.episodes.export.episodes import episodes, tools_text

COLUMNS: dict[str, Feature] = {
    "messages": MESSAGES,
    "tools": "string",
    "outcome": "float64",
    "task": "string",
    "id": "string",
    "model": "string",
    "agentrm": "string",
}


def rows(trees: list[Tree]) -> Iterator[dict[str, Any]]:
    """A row per episode of a task's trees."""
    for tree in trees:
        for episode in episodes(tree):
            yield {
                "messages": episode.messages(),
                "tools": tools_text(tree),
                "outcome": episode.outcome,
                "task": tree.task.id,
                "id": episode.id,
                "model": episode.model,
                "agentrm": json.dumps(described(tree, episode.path), ensure_ascii=False),
            }

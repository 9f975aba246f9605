"""Labels of single steps in the form of TRL's stepwise supervision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentrm.core.messages import text_of
from agentrm.core.tree import Node, Tree
from agentrm.episodes.export.card import Feature
from agentrm.episodes.export.episodes import episodes

GOOD = 0.5
"""The value from which on a step is a good one, unless the data has labels of its own."""


COLUMNS: dict[str, Feature] = {
    "prompt": "string",
    "completions": ["string"],
    "labels": ["bool"],
    "values": ["float64"],
    "outcome": "float64",
    "task": "string",
    "id": "string",
}


def rows(trees: list[Tree]) -> Iterator[dict[str, Any]]:
    """A row per episode: a step is the agent's turn with the answers to it, all as text."""
    for tree in trees:
        for episode in episodes(tree):
            root, *steps = episode.nodes
            yield {
                "prompt": root.observation,
                "completions": [_text(node) for node in steps],
                "labels": [node.value >= GOOD if node.label is None else node.label > 0 for node in steps],
                "values": [node.value for node in steps],
                "outcome": episode.outcome,
                "task": tree.task.id,
                "id": episode.id,
            }


def _text(node: Node) -> str:
    calls = [f"{call.name}({call.arguments})" for call in node.calls]
    return "\n".join(filter(None, (node.reasoning, node.text, *calls, *map(text_of, node.messages()))))

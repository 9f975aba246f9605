"""Preference pairs in the conversational form of TRL, which OpenRLHF and NeMo-RL read as well."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from agentrm.core.messages import Message
from agentrm.core.tree import Tree
from agentrm.episodes.episode import SIDES
from agentrm.episodes.export.card import MESSAGES, Feature
from agentrm.episodes.export.episodes import Ended, tools_text

COLUMNS: dict[str, Feature] = {
    "prompt": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "tools": "string",
    "task": "string",
    "pair": "string",
}


def rows(trees: list[Tree]) -> Iterator[dict[str, Any]]:
    """The pairs of a task: those that were imported; without any, of each state the turns of highest and of lowest
    value that go on from it, where they differ.
    """
    pairs = list(_imported(trees))
    yield from pairs or (row for tree in trees for row in _siblings(tree))


def _imported(trees: list[Tree]) -> Iterator[dict[str, Any]]:
    pairs: dict[str, dict[str, Ended]] = {}
    for tree in trees:
        for index, node in enumerate(tree.nodes):
            for origin in node.origins:
                if origin.side:
                    pairs.setdefault(origin.pair, {})[origin.side] = Ended(tree, tree.path(index))
    for pair, sides in pairs.items():
        if len(sides) == len(SIDES):
            chosen, rejected = (sides[side] for side in SIDES)
            yield _row(chosen.tree, chosen.messages(), rejected.messages(), pair)


def _siblings(tree: Tree) -> Iterator[dict[str, Any]]:
    for parent, node in enumerate(tree.nodes):
        tried = sorted((index for index in node.children), key=lambda index: tree.nodes[index].value)
        if len(tried) > 1 and tree.nodes[tried[0]].value < tree.nodes[tried[-1]].value:
            before = Ended(tree, tree.path(parent)).messages()
            worst, best = ([*before, tree.nodes[index].proposal.message()] for index in (tried[0], tried[-1]))
            yield _row(tree, best, worst, f"{tree.id}/{parent}")


def _row(tree: Tree, chosen: list[Message], rejected: list[Message], pair: str) -> dict[str, Any]:
    alike = takewhile(lambda both: both[0] == both[1], zip(chosen[:-1], rejected[:-1], strict=False))
    shared = sum(1 for _ in alike)
    return {
        "prompt": chosen[:shared],
        "chosen": chosen[shared:],
        "rejected": rejected[shared:],
        "tools": tools_text(tree),
        "task": tree.task.id,
        "pair": pair,
    }

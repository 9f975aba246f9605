"""The episodes of a tree, as they are written: a path from the root to each node where one ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from agentrm.core.messages import Message, text_of
from agentrm.core.tree import Node, Tree


@dataclass(frozen=True, slots=True)
class Ended:
    """The path of an episode through its tree."""

    tree: Tree
    path: list[int]

    @property
    def id(self) -> str:
        """The tree's, and the node at which the episode ended."""
        return f"{self.tree.id}/{self.path[-1]}"

    @property
    def nodes(self) -> list[Node]:
        """From the root to the end."""
        return [self.tree.nodes[index] for index in self.path]

    @property
    def outcome(self) -> float | None:
        """None where a rollout was cut."""
        return self.tree.nodes[self.path[-1]].outcome

    @property
    def model(self) -> str:
        """Who played it, where that is known."""
        return next((origin.model for origin in self.tree.nodes[self.path[-1]].origins if origin.model), "")

    def messages(self, first: int = 0, end: int | None = None) -> list[Message]:
        """The messages of the nodes from number `first` of the path to `end`: each its turn and the answers to it. All
        content is text: readers of tables take no parts.
        """
        messages: list[Message] = []
        for index in self.path[first:end]:
            node = self.tree.nodes[index]
            if node.parent >= 0:
                messages.append(node.proposal.message())
            messages += [message | {"content": text_of(message)} for message in node.messages()]
        return messages


def tools_text(tree: Tree) -> str:
    """The tools of a tree as JSON text, which readers of rows take: as columns, the schemas of arguments have no common
    type.
    """
    return json.dumps(list(tree.tools), ensure_ascii=False)


def episodes(tree: Tree) -> Iterator[Ended]:
    """The episodes of a tree, in the order of the nodes where they ended."""
    leaves = set(tree.leaves())
    for index, node in enumerate(tree.nodes):
        if index and (index in leaves or node.outcome is not None):
            yield Ended(tree, tree.path(index))

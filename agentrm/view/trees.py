"""Search trees as the viewer shows them: a row per tree, a column per field of the nodes, the text of one path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agentrm.core.messages import Message, text_of
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.view.sessions import Recorded, Sessions

_SUMMARY = ("environment", "kind", "split", "index", "number", "iterations", "ended_by", "visits", "value", "outcome")
_COLUMNS = (
    "parent",
    "action",
    "visits",
    "value",
    "outcome",
    "progress",
    "estimate",
    "terminal",
    "malformed",
    "merged",
)
_OF_TREE = (
    "iterations",
    "ended_by",
    "policy_tokens",
    "environment_steps",
    "environment_errors",
    "engine_errors",
    "seconds",
)


def page(store: TreeStore, sessions: Sessions, text: str, start: int, count: int) -> dict[str, Any]:
    """`count` trees and recorded conversations from number `start` of those whose id contains `text`, in the order of
    their ids, and how many there are in all. Raises UserError for a file that is no tree.
    """
    grown, recorded = store.finished(), set(sessions.ids())
    ids = sorted(name for name in grown | recorded if text.lower() in name.lower())
    return {
        "total": len(ids),
        "trees": [
            _summary(store, name) if name in grown else _conversation(sessions, name)
            for name in ids[start : start + count]
        ],
    }


def _summary(store: TreeStore, name: str) -> dict[str, Any]:
    rows = store.table(name, _SUMMARY)
    root = rows.slice(0, 1).to_pylist()[0]
    outcomes = [value for value in rows["outcome"].to_pylist() if value is not None]
    return {
        "id": name,
        **{key: root[key] for key in _SUMMARY if key != "outcome"},
        "nodes": rows.num_rows,
        "ended": len(outcomes),
        "best": max(outcomes, default=None),
    }


def _conversation(sessions: Sessions, name: str) -> dict[str, Any]:
    tree = sessions.conversation(name).tree
    task, root = tree.task, tree.nodes[0]
    outcomes = [node.outcome for node in tree.nodes if node.outcome is not None]
    return {
        "id": name,
        **{key: getattr(task, key) for key in ("environment", "kind", "split", "index")},
        **{key: getattr(tree, key) for key in ("number", "iterations", "ended_by")},
        "visits": root.visits,
        "value": root.value if root.visits else None,
        "nodes": len(tree.nodes),
        "ended": len(outcomes),
        "best": max(outcomes, default=None),
    }


def nodes(tree: Tree, recorded: Recorded | None = None) -> dict[str, Any]:
    """The tree's figures, its nodes as columns, those of turns that were `untaken`, and the nodes of two paths. Of a
    `recorded` conversation both are the one that was taken.

    `most_visited`: what the search would play, the child with the most visits at every step; `highest_value`: the child
    of the highest value. Of equal ones, the other figure decides, then the order.
    """
    return {
        "id": tree.id,
        "task": tree.nodes[0].observation,
        "facts": {name: getattr(tree, name) for name in _OF_TREE},
        "untaken": recorded.untaken if recorded else [i for i, node in enumerate(tree.nodes) if _passed_over(node)],
        "columns": {name: [getattr(node, name) for node in tree.nodes] for name in _COLUMNS},
        "most_visited": recorded.path if recorded else descent(tree, lambda node: (node.visits, node.value)),
        "highest_value": recorded.path if recorded else descent(tree, lambda node: (node.value, node.visits)),
    }


def _passed_over(node: Node) -> bool:
    """Whether a search scored the turn that led to a node and did not take it: no episode ended there either."""
    return node.parent >= 0 and not node.answered and node.outcome is None


def descent(tree: Tree, key: Callable[[Node], tuple[float, float]]) -> list[int]:
    """The nodes from the root to a leaf, at every step the child with the highest key."""
    path = [0]
    while children := tree.nodes[path[-1]].children:
        path.append(max(children, key=lambda child: key(tree.nodes[child])))
    return path


def steps(tree: Tree, index: int) -> list[dict[str, Any]]:
    """The whole text of the path from the root to a node, one row per node."""
    return [{"node": i, **_step(tree.nodes[i])} for i in tree.path(index)]


def _step(node: Node) -> dict[str, Any]:
    shown = ("depth", "thought", "action", "text", "malformed", "removed", "tokens", "logprob", "reasoning")
    first = "instruction and first observation" if node.parent < 0 else "observation"
    answers = [(_speaker(message, first), text_of(message)) for message in node.messages()]
    calls = [(call.name, call.arguments) for call in node.calls]
    return {name: getattr(node, name) for name in shown} | {"calls": calls, "answers": answers}


def _speaker(message: Message, user: str) -> str:
    role = user if message["role"] == "user" else message["role"]
    return f"{role} {message['name']}" if "name" in message else role


def matches(tree: Tree, text: str) -> Sequence[int]:
    """The nodes whose turn or observation contains a text, upper and lower case alike."""
    wanted = text.lower()
    return [
        index
        for index, node in enumerate(tree.nodes)
        if any(wanted in part.lower() for part in (node.action, node.thought, node.observation))
    ]

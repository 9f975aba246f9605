"""What an exported episode carries beside its messages, so that the tree comes back as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import NoneType
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import Message, Tool, ToolCall, runs, text_of
from agentrm.core.messages import checked as checked_messages
from agentrm.core.state import Proposal, observed
from agentrm.core.task import Task
from agentrm.core.tree import Node, Origin, Tree
from agentrm.episodes.conversation import text

_NUMBER = (int, float)
_KNOWN = (int, float, NoneType)
_NODE: dict[str, tuple[type, ...]] = {
    "action": (str,),
    "thought": (str,),
    "logprob": _NUMBER,
    "tokens": (int,),
    "malformed": (bool,),
    "removed": (str,),
    "visits": (int,),
    "value": _NUMBER,
    "outcome": _KNOWN,
    "progress": _KNOWN,
    "estimate": _KNOWN,
    "terminal": (bool,),
    "merged": (int,),
    "label": _KNOWN,
    "reward": _KNOWN,
}
_TREE: dict[str, tuple[type, ...]] = {
    "number": (int,),
    "iterations": (int,),
    "ended_by": (str,),
    "policy_tokens": (int,),
    "environment_steps": (int,),
    "environment_errors": (int,),
    "engine_errors": (int,),
    "seconds": _NUMBER,
}
_TASK: dict[str, tuple[type, ...]] = {
    "environment": (str,),
    "kind": (str,),
    "split": (str,),
    "index": (int,),
    "seed": (int,),
    "data": (str,),
}
_ORIGIN: dict[str, tuple[type, ...]] = {
    "file": (str,),
    "line": (int,),
    "id": (str,),
    "model": (str,),
    "outcome": _KNOWN,
    "pair": (str,),
    "side": (str,),
}
_LARGEST = 2**31 - 1

_Row = tuple[int, Mapping[str, Any], Message | None, Sequence[Message]]
"""Of a node: its parent, what was described of it, the agent's turn (at the root None) and what follows."""


def described(tree: Tree, path: Sequence[int]) -> dict[str, Any]:
    """The task, the tree and the nodes of a path from its root, but for what their messages say."""
    nodes = []
    for index in path:
        node = tree.nodes[index]
        row = {"index": index} | {name: getattr(node, name) for name in _NODE}
        if node.observation != _observed(node.proposal, node.messages(), node.parent < 0)[0]:
            row["observation"] = node.observation
        if any(isinstance(message["content"], list) for message in node.messages()):
            # The exported messages have the parts as one text.
            row["answers"] = list(node.messages())
        if node.origins:
            row["origins"] = [asdict(origin) for origin in node.origins]
        nodes.append(row)
    return {"task": asdict(tree.task), "tree": {name: getattr(tree, name) for name in _TREE}, "nodes": nodes}


def checked(given: Any, messages: Sequence[Message]) -> Mapping[str, Any]:
    """What `described` gave, for a conversation of these messages. Raises InputRefused for anything else."""
    exact = _object(given, "agentrm", {})
    _object(exact.get("tree"), "agentrm.tree", _TREE)
    task = _object(exact.get("task"), "agentrm.task", _TASK)
    if not set("".join(str(value) for value in task.values())).isdisjoint("/\\\t\n\0@"):
        raise InputRefused("agentrm.task cannot stand in a path")
    nodes, turns = exact.get("nodes"), runs(messages)[1]
    if not isinstance(nodes, list) or len(nodes) != len(turns) + 1:
        raise InputRefused(f"agentrm.nodes must be a list of {len(turns) + 1}: one for each turn, and the root")
    before = -1
    if nodes and _object(nodes[0], "agentrm.nodes[0]", {}).get("index") != 0:
        raise InputRefused("agentrm.nodes[0].index must be 0: the root's")
    for number, node in enumerate(nodes):
        where = f"agentrm.nodes[{number}]"
        row = _object(node, where, _NODE | {"index": (int,)})
        if row["index"] <= before:
            raise InputRefused(f"{where}.index is {row['index']}: it must be above its parent's")
        before = row["index"]
        if not isinstance(row.get("observation", ""), str):
            raise InputRefused(f"{where}.observation must be text")
        if "answers" in row:
            checked_messages(row["answers"], f"{where}.answers")
        origins = row.get("origins", [])
        if not isinstance(origins, list):
            raise InputRefused(f"{where}.origins must be a list")
        for place, origin in enumerate(origins):
            _object(origin, f"{where}.origins[{place}]", _ORIGIN)
    return exact


def _object(given: Any, where: str, fields: Mapping[str, tuple[type, ...]]) -> Mapping[str, Any]:
    """An object whose `fields` are of these types, with numbers and text that can be stored."""
    if not isinstance(given, Mapping):
        raise InputRefused(f"{where} must be an object")
    for name, kinds in fields.items():
        value = given.get(name)
        if type(value) not in kinds or (isinstance(value, int) and abs(value) > _LARGEST):
            raise InputRefused(f"{where}.{name} is {str(value)[:40]!r}, which `agentrm export` does not write")
        if isinstance(value, str):
            text(value, f"{where}.{name}")
    return given


def restored(task: Task, episodes: Sequence[tuple[Sequence[Message], Sequence[Tool], Mapping[str, Any]]]) -> Tree:
    """The tree whose paths some episodes are: messages, tools, and what `checked` gave for them. Raises InputRefused
    where they contradict each other.
    """
    rows: dict[int, _Row] = {}
    for messages, _, exact in episodes:
        opening, steps = runs(messages)
        root, *nodes = exact["nodes"]
        path: list[tuple[int, _Row]] = [(0, (-1, root, None, root.get("answers", opening)))]
        for before, row, run in zip(exact["nodes"], nodes, steps, strict=False):
            path.append((row["index"], (before["index"], row, run.agent, row.get("answers", run.answers))))
        for index, given in path:
            if rows.setdefault(index, given) != given:
                raise InputRefused(f"agentrm says two things of node {index} of a tree")
    numbers = {index: number for number, index in enumerate(sorted(rows))}
    tree = Tree(task, [], **{name: episodes[0][2]["tree"][name] for name in _TREE}, tools=tuple(episodes[0][1]))
    for index in sorted(rows):
        parent, row, message, following = rows[index]
        number = numbers[index]
        node = _node(numbers.get(parent, -1), row, message, following)
        if node.parent >= 0:
            node.depth = tree.nodes[node.parent].depth + 1
            tree.nodes[node.parent].children.append(number)
        tree.nodes.append(node)
    return tree


def proposal_of(message: Message, **known: Any) -> Proposal:
    """The agent's message as a turn; its action is its words, or its calls as a policy writes them."""
    calls = tuple(ToolCall(**call["function"], id=call["id"]) for call in message.get("tool_calls", ()))
    text = text_of(message)
    action = known.pop("action", None)
    if action is None:
        action = "\n".join(f"{call.name}({call.arguments})" for call in calls) or text
    return Proposal(text, action, reasoning=message.get("reasoning_content", ""), calls=calls, **known)


def _node(parent: int, row: Mapping[str, Any], message: Message | None, following: Sequence[Message]) -> Node:
    known = {name: row[name] for name in _NODE}
    proposal = Proposal("", "") if message is None else proposal_of(message)
    observation, answers = _observed(proposal, following, message is None)
    return Node(
        parent,
        0,
        row.get("observation", observation),
        text=proposal.text,
        reasoning=proposal.reasoning,
        calls=proposal.calls,
        answers=answers,
        origins=tuple(Origin(**{name: origin[name] for name in _ORIGIN}) for origin in row.get("origins", ())),
        **known,
    )


def _observed(proposal: Proposal, messages: Sequence[Message], root: bool) -> tuple[str, tuple[Message, ...] | None]:
    words, answers = observed(proposal, messages)
    return ("\n\n".join(map(text_of, messages)) if root else words), answers

"""What an exported episode carries beside its messages, so that the tree comes back as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import Message, Tool, ToolCall, runs, text_of
from agentrm.core.state import Proposal, observed
from agentrm.core.task import Task
from agentrm.core.tree import Node, Origin, Tree

_NODE = (
    "action",
    "thought",
    "logprob",
    "tokens",
    "malformed",
    "removed",
    "visits",
    "value",
    "outcome",
    "progress",
    "estimate",
    "terminal",
    "merged",
    "label",
    "reward",
)
_TREE = (
    "number",
    "iterations",
    "ended_by",
    "policy_tokens",
    "environment_steps",
    "environment_errors",
    "engine_errors",
    "seconds",
)


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


def task_of(exact: Mapping[str, Any]) -> Task:
    """The task that an episode was exported with. Raises InputRefused."""
    try:
        task = Task(**exact["task"])
    except (KeyError, TypeError) as error:
        raise InputRefused(f"agentrm.task is no task: {error}") from None
    kinds = (str, str, str, int, int, str)
    if any(type(getattr(task, each.name)) is not kind for each, kind in zip(fields(Task), kinds, strict=True)):
        raise InputRefused("agentrm.task is no task: its fields are of other types")
    if set(task.id) & set("/\\\t\n\0"):
        raise InputRefused(f"agentrm.task is no task: {task.id!r} cannot stand in a path")
    return task


def restored(task: Task, episodes: Sequence[tuple[Sequence[Message], Sequence[Tool], Mapping[str, Any]]]) -> Tree:
    """The tree whose paths some episodes are: messages, tools, and what `described` gave with them. Raises InputRefused
    where they do not fit together.
    """
    rows: dict[int, tuple[int, Mapping[str, Any], Message | None, Sequence[Message]]] = {}
    for messages, _, exact in episodes:
        opening, steps = runs(messages)
        nodes = exact["nodes"]
        if len(nodes) != len(steps) + 1:
            raise InputRefused(
                f"agentrm.nodes holds {len(nodes)} nodes, but the messages {len(steps)} turns of the agent"
            )
        rows.setdefault(nodes[0]["index"], (-1, nodes[0], None, nodes[0].get("answers", opening)))
        for (before, row), run in zip(pairwise(nodes), steps, strict=True):
            rows.setdefault(row["index"], (before["index"], row, run.agent, row.get("answers", run.answers)))
    numbers = {index: number for number, index in enumerate(sorted(rows))}
    tree = Tree(task, [], **episodes[0][2]["tree"], tools=tuple(episodes[0][1]))
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
        origins=tuple(Origin(**each) for each in row.get("origins", ())),
        **known,
    )


def _observed(proposal: Proposal, messages: Sequence[Message], root: bool) -> tuple[str, tuple[Message, ...] | None]:
    words, answers = observed(proposal, messages)
    return ("\n\n".join(map(text_of, messages)) if root else words), answers

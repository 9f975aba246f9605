"""ATIF 1.7: a trajectory per episode, with the outcome and all that makes the tree again in `extra`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from agentrm.core.messages import Message
from agentrm.core.tree import Node, Tree
from agentrm.episodes.exact import described
from agentrm.episodes.export.episodes import Ended, episodes

VERSION = "ATIF-v1.7"


def documents(trees: list[Tree]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the trajectory of each episode of a task's trees."""
    for tree in trees:
        for episode in episodes(tree):
            yield episode.id, _trajectory(episode)


def _trajectory(ended: Ended) -> dict[str, Any]:
    tree = ended.tree
    agent: dict[str, Any] = {"name": "agentrm", "version": VERSION.removeprefix("ATIF-v")}
    if ended.model:
        agent["model_name"] = ended.model
    if tree.tools:
        agent["tool_definitions"] = list(tree.tools)
    extra: dict[str, Any] = {"task": tree.task.id, "agentrm": described(tree, ended.path)}
    if ended.outcome is not None:
        extra["outcome"] = ended.outcome
    return {
        "schema_version": VERSION,
        "session_id": ended.id,
        "trajectory_id": ended.id,
        "agent": agent,
        "steps": [{"step_id": number, **step} for number, step in enumerate(_steps(ended.nodes), 1)],
        "extra": extra,
    }


def _steps(nodes: Sequence[Node]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        said = node.messages()
        if node.parent >= 0:
            # Answers of tools are the step's observation; what a user says next is a step.
            answers = [message for message in said if message["role"] == "tool"]
            yield _turn(node, answers)
            said = tuple(message for message in said if message["role"] != "tool")
        yield from map(_said, said)


def _turn(node: Node, answers: Sequence[Message]) -> dict[str, Any]:
    message = node.proposal.message()
    step: dict[str, Any] = {"source": "agent", "message": message["content"] or ""}
    if node.reasoning:
        step["reasoning_content"] = node.reasoning
    if node.calls:
        step["tool_calls"] = [_call(call.id, call.name, call.arguments) for call in node.calls]
    if answers:
        step["observation"] = {"results": [_result(answer) for answer in answers]}
    extra = {"value": node.value} | ({} if node.reward is None else {"reward": node.reward})
    return step | {"extra": extra}


def _call(identity: str, name: str, written: str) -> dict[str, Any]:
    """A call, whose arguments are an object here; where that loses how they were written, they stand in `extra` too."""
    arguments: Any = {}
    with suppress(ValueError, RecursionError):
        arguments = json.loads(written)
    arguments = arguments if isinstance(arguments, dict) else {}
    call = {"tool_call_id": identity, "function_name": name, "arguments": arguments}
    return call if json.dumps(arguments, ensure_ascii=False) == written else call | {"extra": {"arguments": written}}


def _result(answer: Message) -> dict[str, Any]:
    result = {"source_call_id": answer.get("tool_call_id", ""), "content": answer["content"]}
    return result | ({"extra": {"name": answer["name"]}} if answer.get("name") else {})


def _said(message: Message) -> dict[str, Any]:
    role = message["role"]
    source = role if role in ("system", "user") else "system"
    extra = {key: message[key] for key in ("name",) if key in message} | ({} if source == role else {"role": role})
    return {"source": source, "message": message["content"]} | ({"extra": extra} if extra else {})

"""Traces of verifiers: those of today, a graph of messages of which every branch is an episode, and the older rows of
`prompt` and `completion`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.episodes.columns import Columns, Record, decoded, name, number
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms.form import Form, holds, messages_of


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """An episode for each branch of the graph; all have the trace's reward."""
    nodes = record["nodes"]
    parents = [_parent(node, index) for index, node in enumerate(nodes)]
    leaves = [index for index in range(len(nodes)) if index not in set(parents)]
    task, agent = record.get("task"), record.get("agent")
    task = task if isinstance(task, Mapping) else {"key": task}
    identity = name(record, ("id",))
    for branch, leaf in enumerate(leaves):
        path = [leaf]
        while (parent := parents[path[-1]]) is not None:
            path.append(parent)
        yield columns.episode(
            record,
            [nodes[index].get("message") for index in reversed(path)],
            record.get("tools"),
            outcome=_reward(record.get("rewards")),
            task=task.get("key") or task.get("hash"),
            id=f"{identity}/{branch}" if len(leaves) > 1 and identity else identity,
            model=name(agent, ("model", "model_name", "name"))
            if isinstance(agent, Mapping)
            else name(record, ("model",)),
            source=name(task, ("type",)),
        )


def _parent(node: Any, index: int) -> int | None:
    if not isinstance(node, Mapping):
        raise InputRefused(f"nodes[{index}] must be an object")
    parent = node.get("parent")
    # Parents stand before their children, so that no path goes in a circle.
    if parent is not None and not (isinstance(parent, int) and -1 <= parent < index):
        raise InputRefused(f"nodes[{index}].parent is {parent!r}, no node before it")
    return None if parent == -1 else parent


def _reward(rewards: Any) -> float | None:
    """The weighted sum of a trace's rewards."""
    if not isinstance(rewards, Mapping) or not rewards:
        return None
    total = 0.0
    for key, reward in rewards.items():
        given = reward if isinstance(reward, Mapping) else {"score": reward}
        weight = given.get("weight")
        score = number(given.get("score"), f"rewards.{key}.score")
        total += score * (1.0 if weight is None else number(weight, f"rewards.{key}.weight"))
    return total


def read_older(record: Record, columns: Columns) -> Iterator[Episode]:
    """The episode of a row, of the task `example_id`; `task` names the environment."""
    prompt, completion = (_part(record[field]) for field in ("prompt", "completion"))
    messages = [*messages_of(prompt, "user"), *messages_of(completion, "assistant")]
    fields: dict[str, Any] = {"task": record.get("example_id")}
    if "example_id" in record:
        fields["source"] = name(record, ("task",))
    yield columns.episode(record, messages, record.get("tools"), **fields)


def _part(value: Any) -> Any:
    """A prompt or a completion: text, or messages, which some store as JSON text."""
    return decoded(value, "prompt") if isinstance(value, str) and value.startswith('[{"') else value


FORM = Form("verifiers", lambda record: holds(record, "nodes", list), read)
OLDER = Form("completion", lambda record: holds(record, "prompt") and holds(record, "completion"), read_older)

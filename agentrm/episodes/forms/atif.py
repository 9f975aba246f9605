"""ATIF, the Agent Trajectory Interchange Format, up to 1.8: a file per episode, alone or in Harbor's trial directory.

The fields are read as they are, for the models of the package `atif` refuse a whole file for one field that they do not
know, and name no field in one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT
from agentrm.episodes.columns import Columns, Record, lookup, name, number, object_of, objects_of
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms.form import Form

TRIAL = "harbor_trial"
"""The field in which a trajectory gets the `result.json` of its trial directory."""

NEWEST = (1, 8)
_CONTINUED = "continued_trajectory_ref"
_COPIED = "is_copied_context"
_SHOWN = 40
_VERSION = re.compile(r"ATIF-v(\d+)\.(\d+)")


def joined(record: Record, beside: Callable[[str], Any]) -> Record:
    """A trajectory with the steps of those files that it goes on in, which `beside` reads, but for the context that
    they repeat. Raises InputRefused.
    """
    if not record.get(_CONTINUED):
        return record
    steps, extra = objects_of(record.get("steps"), "steps"), dict(object_of(record.get("extra"), "extra"))
    part, read = record, set[str]()
    while name := part.get(_CONTINUED):
        where = f"{_CONTINUED} is {str(name)[:_SHOWN]!r}"
        if not isinstance(name, str):
            raise InputRefused(f"{where}, no file's name")
        if name in read:
            raise InputRefused(f"{where}, which was read before")
        read.add(name)
        try:
            part = object_of(beside(name), name)
            _check_version(part)
            steps = [*steps, *(step for step in objects_of(part.get("steps"), "steps") if not step.get(_COPIED))]
            extra |= object_of(part.get("extra"), "extra")
        except InputRefused as error:
            raise InputRefused(f"{where}: {error}") from None
    return {**record, "steps": steps, "extra": extra}


def read(record: Record, columns: Columns) -> Iterator[Episode]:
    """The episode of a trajectory, `joined` where it goes on elsewhere. Its outcome is that of the trial's verifier,
    else the sum of the steps' rewards.
    """
    _check_version(record)
    messages: list[dict[str, Any]] = []
    rewards: list[Any] = []
    for index, step in enumerate(objects_of(record.get("steps"), "steps")):
        messages += _messages(step, f"steps[{index}]")
        if step.get("source") == "agent":
            reward = lookup(step, "extra.reward")
            rewards.append(None if reward is None else number(reward, f"steps[{index}].extra.reward"))
    agent, extra = object_of(record.get("agent"), "agent"), object_of(record.get("extra"), "extra")
    trial = object_of(record.get(TRIAL), "result.json")
    given = [value for value in rewards if value is not None]
    known = _verified(trial)
    if known is None:
        known = extra.get("outcome", sum(given) if given else None)
    yield columns.episode(
        {**record, **extra, **trial},
        messages,
        agent.get("tool_definitions"),
        where="steps",
        outcome=known,
        task=trial.get("task_name", extra.get("task")),
        id=name(trial, ("trial_name",)) or name(record, ("trajectory_id",)),
        model=name(agent, ("model_name",)),
        rewards=rewards if given else (),
        **{key: extra[key] for key in ("labels", "source") if key in extra},
    )


def _check_version(record: Record) -> None:
    version = _VERSION.fullmatch(str(record.get("schema_version")))
    if not version or (int(version[1]), int(version[2])) > NEWEST:
        told = f"schema_version is {str(record.get('schema_version'))[:_SHOWN]!r}"
        raise InputRefused(f"{told}: ATIF-v1.8 is the newest that can be read")


def _verified(trial: Record) -> Any:
    rewards = lookup(trial, "verifier_result.rewards")
    if not isinstance(rewards, Mapping) or not rewards:
        return None
    if len(rewards) == 1 or "reward" in rewards:
        return rewards.get("reward", next(iter(rewards.values())))
    return None


def _messages(step: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """The messages of a step: its own, and what was observed after it."""
    source, said = step.get("source"), step.get("message")
    if source not in ("system", "user", "agent"):
        raise InputRefused(f"{where}.source is {str(source)[:40]!r}: it must be system, user or agent")
    calls = [_call(tool_call) for tool_call in objects_of(step.get("tool_calls"), f"{where}.tool_calls")]
    if source == "agent":
        reasoning = step.get("reasoning_content")
        yield {"role": AGENT, "content": said, "reasoning_content": reasoning, "tool_calls": calls}
    else:
        yield {"role": lookup(step, "extra.role") or source, "content": said, "name": lookup(step, "extra.name")}
    for result in objects_of(lookup(step, "observation.results"), f"{where}.observation.results"):
        text, call = result.get("content") or "", result.get("source_call_id")
        if call is None:
            yield {"role": "user", "content": text}
        else:
            yield {"role": "tool", "content": text, "tool_call_id": call, "name": lookup(result, "extra.name")}


def _call(call: Record) -> dict[str, Any]:
    written = lookup(call, "extra.arguments")
    function = {"name": call.get("function_name"), "arguments": call.get("arguments") if written is None else written}
    return {"id": call.get("tool_call_id"), "type": "function", "function": function}


FORM = Form("atif", lambda record: str(record.get("schema_version", "")).startswith("ATIF"), read)

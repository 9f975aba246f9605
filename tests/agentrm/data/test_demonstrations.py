"""Demonstrations are collected from an oracle, kept in Parquet and labelled on the agent's tokens only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentrm.config.schema import Model, Scratch
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.core.messages import runs
from agentrm.core.state import State
from agentrm.core.task import Grade, Observation, Task
from agentrm.data.demonstrations import Collection, agent_turns, collect, read, write
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.registry import environment_class
from agentrm.models.initial import prepare, train_tokenizer
from agentrm.rendering.renderer import Renderer
from agentrm.search.episode import Opening

TASKS = [Task("toy", "count", "train", index) for index in range(5)]


class Counting:
    """A counter that must reach the task's index; task 0 has no oracle, task 3 fails, task 4's engine crashes."""

    async def expert_actions(self, task: Task) -> list[str]:
        return ["up"] * task.index

    async def expert_thoughts(self, task: Task, actions: tuple[str, ...]) -> list[str]:
        return [f"{left} to go." for left in range(len(actions), 0, -1)] if task.index == 2 else [""] * task.index

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        if task.index == 4:
            raise EnvironmentFailure("crashed")
        return Observation(f"at {len(actions)}", len(actions) == task.index)

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        solved = len(actions) == task.index and task.index != 3
        return Grade(float(solved), 1.0, solved)


async def collected(form: ActionFormat) -> Collection:
    world = Counting()
    advanced: list[None] = []
    collection = await collect(
        TASKS,
        world,
        world,
        world,
        lambda task, first: State.begin(task, f"count to {task.index}, {first.text}"),
        form,
        2,
        lambda: advanced.append(None),
    )
    assert len(advanced) == len(TASKS)
    return collection


async def test_successes_are_kept_and_the_rest_is_counted() -> None:
    collection = await collected(ActionFormat.bare)
    assert [each.task.index for each in collection.demonstrations] == [1, 2]
    assert collection.counts == {"toy.count": {"kept": 2, "no_oracle": 1, "unsuccessful": 1, "environment_failure": 1}}
    assert collection.demonstrations[1].conversation.messages == [
        {"role": "user", "content": "count to 2, at 0"},
        {"role": "assistant", "content": "up"},
        {"role": "user", "content": "at 1"},
        {"role": "assistant", "content": "up"},
        {"role": "user", "content": "at 2"},
    ]


async def test_react_turns_hold_the_oracles_thoughts_where_it_has_any() -> None:
    collection = await collected(ActionFormat.react)
    turns = [
        [message["content"] for message in each.conversation.messages if message["role"] == "assistant"]
        for each in collection.demonstrations
    ]
    assert turns == [["Action: up"], ["Thought: 2 to go.\nAction: up", "Thought: 1 to go.\nAction: up"]]


class Pool:
    """A pool of real environments."""

    def __init__(self) -> None:
        self._pool = SessionPool()

    async def expert_actions(self, task: Task) -> list[str]:
        return self._pool.expert_actions(task)

    async def expert_thoughts(self, task: Task, actions: tuple[str, ...]) -> list[str]:
        return self._pool.expert_thoughts(task, actions)

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        return self._pool.observe(task, actions)

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        return self._pool.grade(task, actions)


async def test_demonstrations_call_tools(tmp_path: Path) -> None:
    """Thoughts beside them, in real environments; they are stored, and learned in the form of the chat template."""
    world, tasks = Pool(), [Task("maze", "perfect_tiny", "train", 0), Task("toolquery", "academia", "train", 3)]
    opening = Opening(instructions=True, action_format=ActionFormat.tools)
    collection = await collect(
        tasks, world, world, world, opening, ActionFormat.tools, concurrency=2, advance=lambda: None
    )
    assert [each.task for each in collection.demonstrations] == tasks
    renderer = Renderer(train_tokenizer(["go"], 300, phrases=False), 65536)
    for demonstration in collection.demonstrations:
        task, conversation = demonstration.task, demonstration.conversation
        environment, actions = environment_class(task.environment), await world.expert_actions(task)
        assert conversation.tools == environment.tools(task.kind)
        thoughts = await world.expert_thoughts(task, tuple(actions))
        opening_messages, steps = runs(conversation.messages)
        assert len(opening_messages) == 1
        calls = [replace(environment.call(action), id=f"call_{t}") for t, action in enumerate(actions)]
        assert [step.agent for step in steps] == [
            {"role": "assistant", "content": thought or None, "tool_calls": [call.message()]}
            for thought, call in zip(thoughts, calls, strict=True)
        ]
        assert [[each["role"] for each in step.answers] for step in steps] == [["tool"]] * len(calls)
        (row,) = renderer.turns(conversation)
        learned = renderer.tokenizer.decode([id for id, own in zip(row.ids, row.agent, strict=True) if own])
        assert learned.count("<tool_call>") == len(calls)
    assert collection.demonstrations[0].conversation.messages[1]["content"].startswith("Row ")
    write(collection.demonstrations, tmp_path / "demonstrations.parquet")
    stored = read(tmp_path)
    assert [(each.task, each.conversation.messages) for each in stored] == [
        (each.task, each.conversation.messages) for each in collection.demonstrations
    ]
    assert [list(each.conversation.tools) for each in stored] == [
        list(each.conversation.tools) for each in collection.demonstrations
    ]


async def test_parquet_round_trip(tmp_path: Path) -> None:
    demonstrations = (await collected(ActionFormat.bare)).demonstrations
    write(demonstrations, tmp_path / "demonstrations.parquet")
    assert read(tmp_path) == demonstrations


def test_a_foreign_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no demonstrations: give"):
        read(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(UserError, match=r"foreign\.parquet holds no demonstrations of schema version"):
        read(tmp_path)


def test_labels_stand_before_the_agents_tokens(tmp_path: Path) -> None:
    scratch = Scratch(vocabulary=300, hidden=64, layers=1, heads=2)
    prepare(Model(source="scratch", scratch=scratch), ["see a room"] * 9, 0, tmp_path)
    renderer = Renderer.from_pretrained(tmp_path, 40)
    conversation = [
        {"role": "user", "content": "see"},
        {"role": "assistant", "content": "up"},
        {"role": "user", "content": "a room"},
    ]
    too_long = [{"role": "user", "content": "z" * 50}, *conversation[1:]]
    sequences, overflows = agent_turns([conversation, too_long], renderer, 0.0, 0)
    assert (len(sequences), overflows) == (1, 1)
    assert renderer.tokenizer.decode(sequences.labels) == "up<|end|>"
    assert renderer.tokenizer.decode(sequences.ids) == "<|user|>see<|end|><|assistant|>up"
    everything, _ = agent_turns([conversation], renderer, 1.0, 0)
    assert renderer.tokenizer.decode(everything.labels) == "see<|end|><|assistant|>up<|end|>"
    halves = [agent_turns([conversation], renderer, 0.5, seed)[0] for seed in range(40)]
    assert len({len(each.labels) for each in halves}) > 1
    assert all(renderer.tokenizer.decode(each.labels).endswith("up<|end|>") for each in halves)
    whole = renderer.ids(conversation)
    assert [whole[position + 1] for position in sequences.positions] == sequences.labels.tolist()

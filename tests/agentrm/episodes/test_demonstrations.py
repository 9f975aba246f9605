"""Trajectories in the forms of ETO and AgentGym become demonstrations of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentrm.config.loading import load
from agentrm.config.schema import DemonstrationSet
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import UserError
from agentrm.data.demonstrations import Collection
from agentrm.environments.registry import environment_class
from agentrm.episodes.demonstrations import recorded
from agentrm.provenance import describe_data, used_data
from agentrm.search.episode import Opening

ROOM = "You are in the middle of a room.\n\nYour task is to: put some mug in desk."
TAKE = "Thought: There is a mug.\nIt is mine.\nAction: take mug 1 from shelf 1"
PUT = "Thought: Here is the desk.\nAction: put mug 1 in/on desk 1"


def eto(*turns: str, **fields: Any) -> dict[str, Any]:
    """The first turn is the user's."""
    return {
        "id": "alfworld_1",
        "conversations": [
            {"from": "gpt" if number % 2 else "human", "value": text} for number, text in enumerate(turns)
        ],
    } | fields


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [
        eto("Interact with a household.", "OK", f"Now, it's your turn and here is the task.\n{ROOM}", TAKE,
            "Observation: You pick up the mug 1 from the shelf 1.", PUT,
            "Observation: You put the mug 1 in/on the desk 1."),
        eto(ROOM, TAKE, "You pick up the mug 1 from the shelf 1.", PUT),
        eto(ROOM, TAKE, "Nothing happens.", "I give up."),
        eto(ROOM, PUT, reward=0.4),
        {"conversations": "none"},
    ]  # fmt: skip
    path = tmp_path / "alfworld_sft.json"
    path.write_text(json.dumps(rows))
    return path


def read(file: Path, form: ActionFormat = ActionFormat.react, instructions: bool = True, **keys: Any) -> Collection:
    return recorded([DemonstrationSet("alfworld", file=str(file), **keys)], Opening(instructions, form), form)


def test_thoughts_are_kept_and_words_are_the_present_engines(file: Path) -> None:
    collection = read(file)
    assert collection.counts == {
        "alfworld.recorded": {"kept": 2, "without_action": 1, "unsuccessful": 1, "unreadable": 1}
    }
    first, second = (each.conversation.messages for each in collection.demonstrations)
    opening = first[0]["content"]
    assert opening.startswith(environment_class("alfworld").instruction)
    assert opening.endswith(f"Now it is your turn.\n\n{ROOM}")
    assert [message["role"] for message in first] == ["user", "assistant"] * 2 + ["user"]
    assert first[1]["content"] == TAKE
    assert first[2]["content"] == "You pick up the mug 1 from the shelf 1."
    assert first[3]["content"] == "Thought: Here is the desk.\nAction: move mug 1 to desk 1"
    assert first[4]["content"] == "You move the mug 1 to the desk 1."
    # Without instructions of its own, an episode begins as it is.
    assert second[0]["content"] == ROOM
    assert second[3] == first[3]
    assert [each.task.index for each in collection.demonstrations] == [0, 1]


def test_actions_are_written_as_the_policy_writes_them(file: Path) -> None:
    bare = read(file, ActionFormat.bare, instructions=False).demonstrations[0].conversation.messages
    assert bare[0]["content"] == ROOM
    assert bare[1]["content"] == "take mug 1 from shelf 1"
    tools = read(file, ActionFormat.tools).demonstrations[0].conversation
    assert tools.tools
    assert tools.messages[3]["content"] == "Here is the desk."
    assert json.loads(tools.messages[3]["tool_calls"][0]["function"]["arguments"]) == {
        "command": "move mug 1 to desk 1"
    }
    assert tools.messages[4]["role"] == "tool"


def test_so_many_are_taken_from_the_offset_on(file: Path) -> None:
    assert len(read(file, count=1).demonstrations) == 1
    (second,) = read(file, offset=1).demonstrations
    assert second.conversation.messages[0]["content"] == ROOM
    with pytest.raises(
        UserError, match=r"alfworld_sft.json holds 2 demonstrations of alfworld, too few .* 1 unreadable"
    ):
        read(file, count=3)
    with pytest.raises(UserError, match=r"nowhere\.json"):
        read(file.parent / "nowhere.json")


def test_the_configuration_names_files_beside_tasks(file: Path) -> None:
    key = (
        "tasks.demonstrations=[{environment: alfworld, file: %s}, {environment: maze, kinds: [perfect_tiny], count: 2}]"
    )
    chosen = load("quickstart", ["run=x", key % file]).tasks
    assert chosen.demonstrations[0].file == str(file)
    data = used_data(chosen)
    assert data["alfworld"]["tasks"] == {f"demonstrations of {file}": "recorded"}
    assert "alfworld recorded" in describe_data(data)
    for broken, reason in (
        ("{environment: maze}", r"tasks.demonstrations\[0\].count is not set"),
        ("{environment: maze, file: x, kinds: [perfect]}", r"tasks.demonstrations\[0\] names a file: leave out kinds"),
        ("{environment: mars, file: x}", "unknown environment 'mars'"),
    ):
        with pytest.raises(UserError, match=reason):
            load("quickstart", ["run=x", f"tasks.demonstrations=[{broken}]"])

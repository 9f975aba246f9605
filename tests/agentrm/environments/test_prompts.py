"""Prompts in published forms, from files of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.core.actions import ActionFormat
from agentrm.core.errors import UserError
from agentrm.core.task import Observation, Task
from agentrm.environments.prompts import published_prompt
from agentrm.search.episode import Opening

EXAMPLE = [
    [
        {"role": "user", "content": "You see a desk.\n"},
        {"role": "assistant", "content": "Thought: There it is.\n Action: put pen 1 in/on desk 1\n"},
        {"role": "user", "content": "Observation: You put the pen 1 in/on the desk 1.\n"},
    ],
    [{"role": "user", "content": "another"}],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (
        ("alfworld", "Tidy up.\n3. put {obj} in/on {recep}\n"),
        ("pddl_blockworld", "Stack."),
        ("tool_todo", "Use tools."),
        ("sciworld", "Explore."),
        ("sciworld_ab", "Explore the board."),
    ):
        (tmp_path / "instructions").mkdir(exist_ok=True)
        (tmp_path / "instructions" / f"{name}_inst.txt").write_text(text)
    (tmp_path / "icl_examples").mkdir()
    (tmp_path / "icl_examples" / "alfworld_icl.json").write_text(json.dumps(EXAMPLE))
    return tmp_path


def test_the_first_turn_is_in_published_wording(folder: Path) -> None:
    opening = Opening(instructions=True, action_format=ActionFormat.react, prompts=str(folder))
    (message,) = opening(Task("alfworld", "pick_and_place_simple", "test", 0), Observation("You see a shelf.")).opening
    assert message["content"] == (
        "Tidy up.\n3. move {obj} to {recep}\n\nAn example:\n\nYou see a desk.\n\nThought: There it is.\n Action: "
        "move pen 1 to desk 1\n\nObservation: You move the pen 1 to the desk 1.\n\nNow it is your turn.\n\n"
        "You see a shelf."
    )


@pytest.mark.parametrize(
    ("environment", "kind", "instruction"),
    [
        ("pddl", "blocksworld", "Stack."),
        ("tooloperation", "todo_recorded", "Use tools."),
        ("scienceworld", "boil", "Explore."),
        ("scienceworld", "agentboard", "Explore the board."),
    ],
)
def test_each_kind_has_its_file(folder: Path, environment: str, kind: str, instruction: str) -> None:
    assert published_prompt(str(folder), environment, kind) == (instruction, ())


def test_agentboards_form_and_other_wordings(tmp_path: Path) -> None:
    (tmp_path / "pddl_vanilla_prompt.json").write_text(
        json.dumps({"gripper": {"instruction": "Carry.", "examples": ["Goal: x\nAction: move a b\n"]}})
    )
    (tmp_path / "babyai_vanilla_prompt.json").write_text(
        json.dumps({"instruction": "Go.", "examples": {"a": ["go to x"]}})
    )
    assert published_prompt(str(tmp_path), "pddl", "gripper") == ("Carry.", ("Goal: x\nAction: move a b",))
    assert published_prompt(str(tmp_path), "babyai+walk", "goto_local").example == ("walk to x",)
    with pytest.raises(UserError, match="holds no instruction for barman"):
        published_prompt(str(tmp_path), "pddl", "barman")


def test_what_cannot_be_shown_is_refused_with_key_file_and_fix(folder: Path, tmp_path: Path) -> None:
    named = [f"model.prompts={folder}", "model.instructions=true", "model.action_format=react"]
    with pytest.raises(UserError, match=r"model.prompts: .* no prompt for webshop beauty_small .* or webshop_vanilla"):
        load("quickstart", named)
    with pytest.raises(UserError, match=r"model.prompts names instructions .* set model.instructions=true"):
        load("quickstart", [named[0], "model.instructions=false"])
    with pytest.raises(UserError, match="is no folder here: name eval_agent/prompt"):
        published_prompt(str(tmp_path / "nowhere"), "maze", "perfect")
    for text, reason in (("[", "is no JSON"), ("[3]", "holds no list of conversations"), ("", "is empty")):
        path = tmp_path / "icl_examples" / "pddl_blockworld_icl.json"
        path.write_text(text)
        published_prompt.cache_clear()
        with pytest.raises(UserError, match=f"model.prompts: {path} {reason}"):
            published_prompt(str(folder), "pddl", "blocksworld")

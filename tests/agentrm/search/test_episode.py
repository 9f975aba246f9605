"""The first user turn: bare, or with instruction and example, in the action format of the policy."""

from __future__ import annotations

import pytest

from agentrm.core.actions import ActionFormat
from agentrm.core.state import State
from agentrm.core.task import Observation, Task
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.registry import environment_class
from agentrm.search.episode import Opening, step_limit

TASK = Task("maze", "double_t", "train", 0)
NEAR = Observation("the goal is near")


def test_without_instructions_the_first_turn_is_the_observation() -> None:
    begun = Opening(instructions=False, action_format=ActionFormat.react)(TASK, NEAR)
    assert begun == State.begin(TASK, NEAR.text)


@pytest.mark.parametrize(
    ("form", "first_turn"),
    [(ActionFormat.bare, "\nmove right\n\n"), (ActionFormat.react, "\nAction: move right\n\n")],
)
def test_the_example_is_written_in_the_policy_s_own_format(form: ActionFormat, first_turn: str) -> None:
    environment = environment_class("maze")
    begun = Opening(instructions=True, action_format=form)(TASK, NEAR)
    text = begun.opening[0]["content"]
    assert text.startswith(environment.instruction) and text.endswith("\n\nthe goal is near")
    assert first_turn in text
    assert ("Thought: " in text) == (form is ActionFormat.react)
    assert all(turn.observation in text for turn in environment.example)


@pytest.mark.parametrize("task", [TASK, Task("toolquery", "movie", "train", 0), Task("webshop", "beauty", "test", 1)])
def test_who_calls_tools_is_offered_them_and_not_told_how_to_write_an_action(task: Task) -> None:
    environment = environment_class(task.environment)
    state = Opening(instructions=True, action_format=ActionFormat.tools)(task, Observation("the goal is near"))
    assert state.tools == environment.tools(task.kind) == tuple(state.conversation().tools)
    (message,) = state.opening
    assert message["content"] == f"{environment.instruction_for_calls(task.kind)}\n\nthe goal is near"
    bare = Opening(instructions=False, action_format=ActionFormat.tools)(task, Observation("the goal is near"))
    assert bare.tools == state.tools
    assert bare.opening == ({"role": "user", "content": "the goal is near"},)


@pytest.mark.parametrize("task", [Task("toolquery", "movie", "train", 0), Task("tooloperation", "todo", "train", 0)])
def test_tools_that_are_offered_are_not_listed_once_more(task: Task) -> None:
    pool = SessionPool()
    first = pool.observe(task, ())
    pool.close()
    listed = first.text.partition("\n\nGoal: ")[0]
    assert all(tool["function"]["name"] in listed for tool in environment_class(task.environment).tools(task.kind))
    (told,), (offered,) = (
        Opening(instructions=False, action_format=form)(task, first).opening
        for form in (ActionFormat.react, ActionFormat.tools)
    )
    assert told["content"] == first.text
    assert offered["content"] == first.text.removeprefix(f"{listed}\n\n") and offered["content"].startswith("Goal: ")


def test_an_episode_is_cut_at_the_lower_of_both_limits() -> None:
    assert step_limit(TASK, 7) == 7
    assert step_limit(TASK, 1000) == environment_class("maze").max_steps

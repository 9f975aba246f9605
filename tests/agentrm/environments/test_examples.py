"""Every environment tells its policy what to do, with one solved episode."""

import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.registry import environment_class, make, names

PLAYED = {
    "alfworld": Task("alfworld", "pick_heat_then_place_in_recep_small", "train", 2),
    "babyai": Task("babyai", "key_in_box", "train", 1),
    "scienceworld": Task("scienceworld", "find-animal", "train", 1),
}


@pytest.mark.parametrize("name", names())
def test_instruction_and_example_are_complete(name: str) -> None:
    environment = environment_class(name)
    assert len(environment.instruction.split()) >= 10
    assert len(environment.example) >= 2
    for turn in environment.example:
        for text in (turn.observation, turn.thought, turn.action):
            assert text
            assert text == text.strip()
        assert "\n" not in turn.thought + turn.action
        assert "Action:" not in turn.thought + turn.action
    assert len({turn.observation for turn in environment.example}) == len(environment.example)


@pytest.mark.parametrize("name", names())
def test_who_calls_tools_is_not_told_how_to_write_an_action(name: str) -> None:
    environment = environment_class(name)
    told = environment.instruction_for_calls(environment.kinds[0])
    assert environment.action_form in environment.instruction
    assert not any(form in told for form in ("Action Input", "search[", "click["))
    left = len(environment.instruction.split()) - len(environment.action_form.split())
    assert len(told.split()) == left and "  " not in told


@pytest.mark.parametrize("name", sorted(PLAYED))
def test_the_example_is_an_episode_of_the_engine(name: str) -> None:
    """Word for word, so that an example cannot teach what the engine no longer says."""
    try:
        environment = make(name)
    except UserError as error:
        pytest.skip(str(error))
    observation = environment.reset(PLAYED[name])
    for turn in environment.example:
        assert not observation.done
        assert observation.text == turn.observation
        observation = environment.step(turn.action)
    assert observation.done
    assert environment.grade().success
    environment.close()

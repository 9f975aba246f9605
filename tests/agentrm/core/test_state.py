from __future__ import annotations

from agentrm.core.state import ENDED, Proposal, State
from agentrm.core.task import Observation, Task

START = State.begin(Task("toy", "any", "train", 0), "go to the ball")


def test_a_conversation_alternates_and_ends_with_the_environment() -> None:
    state = START.extend(Proposal("Thought: near.\nAction: go", "go"), Observation("you are there"))
    assert state.actions == ("go",)
    assert state.conversation().messages == [
        {"role": "user", "content": "go to the ball"},
        {"role": "assistant", "content": "Thought: near.\nAction: go"},
        {"role": "user", "content": "you are there"},
    ]


def test_an_ended_episode_says_so_in_its_last_turn_alone() -> None:
    state = START.extend(Proposal("go", "go"), Observation("you are there"))
    ended = state.extend(Proposal("stop", "stop"), Observation("", done=True))
    assert ended.conversation().messages[:-1] == [
        *state.conversation().messages,
        {"role": "assistant", "content": "stop"},
    ]
    assert ended.conversation().messages[-1]["content"] == ENDED

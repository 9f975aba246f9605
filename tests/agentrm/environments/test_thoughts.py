"""What oracles think before their actions: it is there to be learned, and knows no more than was read."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.hosting.sessions import SessionPool

# Names that only an engine knows: numbered things, products, values of options.
_NAMES = re.compile(r"\b[a-z]+\d+\b|\b[a-z]+ \d+\b|\bB0\w{8}\b|\$[\d.]+")


@pytest.fixture(scope="module")
def pool() -> Iterator[SessionPool]:
    found = SessionPool()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ("webshop", "beauty"),
        ("alfworld", "pick_heat_then_place_in_recep_small"),
        ("alfworld", "pick_two_obj_and_place_small"),
        ("alfworld", "look_at_obj_in_light_small"),
        ("pddl", "gripper"),
        ("pddl", "tyreworld"),
        ("toolquery", "weather"),
        ("toolquery", "movie"),
        ("tooloperation", "todo"),
        ("tooloperation", "sheet"),
        ("scienceworld", "find-plant"),
    ],
)
def test_thoughts_are_there_and_say_what_was_read(pool: SessionPool, environment: str, kind: str) -> None:
    task = Task(environment, kind, "train", 0)
    try:
        plan = tuple(pool.expert_actions(task))
    except UserError as error:
        pytest.skip(str(error))
    thoughts = pool.expert_thoughts(task, plan)
    assert len(plan) > 1
    assert sum(map(bool, thoughts)) == len(plan)
    assert all("\n" not in thought for thought in thoughts)
    read = pool.observe(task, ()).text
    for t, (action, thought) in enumerate(zip(plan, thoughts, strict=True)):
        for name in _NAMES.findall(thought):
            assert name in read or name in action, thought
        read += pool.observe(task, plan[: t + 1]).text


def test_alfworld_does_not_know_where_things_lie(pool: SessionPool) -> None:
    try:
        from agentrm.environments.alfworld.games import Goal, thought
    except ImportError as error:
        pytest.skip(str(error))
    goal = Goal("mug", "desk", "isclean", 1)
    plan = ["go to shelf 1", "take mug 1 from shelf 1", "go to sinkbasin 1", "clean mug 1 with sinkbasin 1"]
    plan += ["go to desk 1", "open desk 1", "move mug 1 to desk 1"]
    assert [thought(plan[t:], goal) for t in range(len(plan))] == [
        "I need a mug. It may be at shelf 1.",
        "Here is mug 1, at shelf 1. I need a mug, so I take it.",
        "I hold the mug and have to clean it. sinkbasin 1 is made for that.",
        "I stand at sinkbasin 1 and hold mug 1, so I can clean it now.",
        "I hold the mug. It belongs in or on desk 1.",
        "desk 1 is closed, so I open it.",
        "I am at desk 1 and put mug 1 there, as the task asks.",
    ]
    assert thought(["look"], goal) == ""


def test_scienceworld_names_no_thing_that_nothing_has_told(pool: SessionPool) -> None:
    thoughts = pytest.importorskip("agentrm.environments.scienceworld.thoughts")
    plan = ["go to kitchen", "look around", "pick up thermometer"]
    assert thoughts.thought(plan, "Measure it.") == "I have to get to the kitchen."
    known = "Measure it with the thermometer."
    assert thoughts.thought(plan, known) == "I have to get to the kitchen. There I want to pick up thermometer."
    assert thoughts.thought(["connect battery anode to wire"], "") == "The circuit needs the battery anode at the wire."
    assert thoughts.thought(["wait1"], "") == "This takes time, so I wait."
    assert thoughts.thought(["sing"], "") == ""

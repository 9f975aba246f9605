from pathlib import Path

import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.registry import make

pytest.importorskip("pyperplan")
EXAMPLE = """(define (problem example) (:domain blocksworld-4ops) (:objects b1 b2 b3)
  (:init (arm-empty) (on b3 b2) (on-table b1) (on-table b2) (clear b1) (clear b3)) (:goal (and (on b1 b2))))"""
TYRES = """(define (problem two-tyres)
(:domain tyreworld)
(:objects
wrench jack pump - tool
the-hub1 - hub
nuts1 - nut
boot - container
r1 w1 - wheel
)
(:init (in jack boot) (in pump boot) (in wrench boot) (unlocked boot) (closed boot) (intact r1) (in r1 boot)
(not-inflated r1) (on w1 the-hub1) (on-ground the-hub1) (tight nuts1 the-hub1) (fastened the-hub1))
(:goal
(and
(inflated r1)
(on w1 the-hub1)
)
)
)
)
"""


@pytest.fixture
def environment():
    found = make("pddl")
    yield found
    found.close()


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as AgentBoard's, with problems of our own."""
    for folder, text in (("blockworld", EXAMPLE), ("tyreworld", TYRES)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p01.pddl").write_text(text)
    monkeypatch.setenv("AGENTBOARD_PDDL", str(tmp_path))
    return tmp_path


def test_the_example_is_what_the_engine_says(environment, official: Path) -> None:
    observation = environment.reset(environment.task("blocksworld", "test", 0))
    for turn in environment.example:
        assert observation.text == turn.observation
        observation = environment.step(turn.action)
    assert observation.done
    assert observation.text.endswith("The goal is satisfied.")
    environment.reset(environment.task("blocksworld", "test", 0))
    assert environment.expert_actions() == [turn.action for turn in environment.example]


def test_progress_of_an_official_problem_is_agentboards(environment, official: Path) -> None:
    """The share of the goals that hold, from the first action that changes something."""
    environment.reset(environment.task("tyreworld", "test", 0))
    assert environment.grade().progress == 0
    for action in ("open boot", "fetch pump from boot", "fetch r1 from boot"):
        assert not environment.step(action).done
        assert environment.grade().progress == 0.5
    assert environment.step("inflate the wheel r1").done
    assert environment.grade().outcome == environment.grade().progress == 1


def test_progress_is_the_best_so_far(environment) -> None:
    task = next(
        task
        for task in (Task("pddl", "gripper", "train", index) for index in range(50))
        if environment.reset(task).text.split("Goal:")[1].split("Now:")[0].count(" is at ") > 2
        and len(environment.expert_actions()) > 8
    )
    environment.reset(task)
    for action in environment.expert_actions():
        environment.step(action)
        if progress := environment.grade().progress:
            break
    assert 0 < progress < 1
    ball, room, arm = (action.split()[index] for index in (1, 3, 6))
    environment.step(f"pick up {ball} at {room} with arm {arm}")
    assert environment.grade().progress == progress


def test_messages(environment, official: Path) -> None:
    environment.reset(environment.task("blocksworld", "test", 0))
    start = environment.fingerprint()
    valid = "Valid actions are: pickup b1, unstack b3 from b2, check valid actions, look around."
    assert environment.step("Check valid actions.").text == valid
    assert environment.step("look around").text.startswith("Your arm is empty. b1 is clear.")
    assert environment.step("pickup b2").text == "You cannot do that now. It needs: b2 is clear."
    assert environment.step("fly").text.startswith("That is not an action.")
    assert environment.fingerprint() == start


def test_changes_alone_are_shown_where_states_are_large(environment, official: Path) -> None:
    environment.reset(environment.task("tyreworld", "test", 0))
    assert environment.step("open boot").text == "boot is open."
    assert environment.step("jack-down the hub the-hub1").text == (
        "You cannot do that now. It needs: Hub the-hub1 is not on the ground."
    )


def test_objects_that_do_not_fit_are_refused(environment) -> None:
    environment.reset(Task("pddl", "barman", "train", 0))
    assert environment.step("left grasp").text.startswith("That action lacks some of its objects.")
    assert environment.step("shot1 grasp left").text == (
        "That would do nothing with these objects. Its form is: <hand> grasp <vessel>."
    )


def test_official_problems_are_the_tests(environment, official: Path) -> None:
    assert environment.size("tyreworld", "test") == 1
    assert environment.size("tyreworld", "train") == 10_000
    with pytest.raises(UserError, match=r"there is no .*gripper"):
        environment.size("gripper", "test")


def test_problems_that_cannot_be_played_are_left_out_by_line_and_reason(
    environment, official: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = official / "tyreworld"
    (folder / "p00.pddl").write_text("nonsense")
    (folder / "p02.pddl").write_text(TYRES.replace("(inflated r1)", ""))
    (folder / "p03.pddl").write_bytes(b"\xef\xbb\xbf; caf\xe9 (1\r\n" + TYRES.replace("\n", "\r\n").encode())
    (folder / "._p04.pddl").write_bytes(b"\x00\x05\x16\x07")
    assert environment.size("tyreworld", "test") == 2
    assert environment.reset(environment.task("tyreworld", "test", 0)) == environment.reset(
        environment.task("tyreworld", "test", 1)
    )
    (told,) = caplog.messages
    assert "2 entries are used" in told
    assert "1 x line 1: nonsense stands outside of brackets: tyreworld/p00.pddl" in told
    assert "1 x asks for nothing: its goal holds at the start: tyreworld/p02.pddl" in told

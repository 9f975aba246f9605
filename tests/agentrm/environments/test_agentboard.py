"""AgentBoard's tests on files of our own in its form; half of its BabyAI goals where AGENTRM_TEST_DATA has them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrm.config.schema import Tasks, TaskSet
from agentrm.config.tasks import chosen_kinds, tasks
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.agentboard import Line
from agentrm.environments.base import Environment
from agentrm.environments.catalogue import describe
from agentrm.environments.registry import environment_class, find_task, make
from agentrm.provenance import other_data, used_data
from agentrm.search.episode import step_limit

Write = Callable[..., Path]
BALL = ["There is a red ball **", " There is a red ball ** right in front of you 1 steps away."]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes lines of an environment into a folder that AGENTBOARD_DATA names; texts are taken as they are."""

    def write(name: str, *lines: Any) -> Path:
        path = tmp_path / "board" / "data" / name / "test.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines))
        monkeypatch.setenv("AGENTBOARD_DATA", str(tmp_path / "board"))
        return path

    return write


@pytest.fixture
def playing() -> Iterator[Callable[[str], Environment]]:
    started: list[Environment] = []

    def start(name: str) -> Environment:
        try:
            started.append(make(name))
        except UserError as error:
            pytest.skip(str(error))
        return started[-1]

    yield start
    for each in started:
        each.close()


def line(number: int, goal: str, subgoals: list[Any], **info: Any) -> dict[str, Any]:
    return {"id": number, "task": "", "goal": goal, "subgoals": subgoals, "difficulty": "easy", "additional_info": info}


def ball_line(number: int, subgoals: list[str], level: str = "BabyAI-GoToRedBallNoDists-v0") -> dict[str, Any]:
    """A goal of BabyAI whose init_obs is the one that this level has with this seed."""
    from agentrm.environments.babyai.environment import BoardTask, _board

    first = _board(BoardTask(level, 1234 + number % 4, "", tuple(subgoals))).describe()
    return line(number, "go to the red ball", subgoals, subtask=level, init_obs=first)


# --- BabyAI


def test_the_published_goals_begin_as_published(board: Write, playing: Callable[[str], Environment]) -> None:
    known = Path(os.environ.get("AGENTRM_TEST_DATA", "")) / "agentboard_babyai_first56.jsonl"
    if not known.is_file():
        pytest.skip("set AGENTRM_TEST_DATA to a directory with agentboard_babyai_first56.jsonl")
    rows = [json.loads(text) for text in known.read_text().splitlines()]
    shutil.copy(known, board("babyai", b""))
    environment = playing("babyai")
    # The left-out lines would be those whose first observation is another.
    assert environment.size("agentboard", "test") == len(rows) == 56
    found = tasks([TaskSet("babyai", split="test", count=56)], seed=3)
    solved = 0
    for task, row in zip(found, rows, strict=True):
        text = environment.reset(task).text
        assert text == f"Your task: {row['goal']}. {row['additional_info']['init_obs']}"
        assert environment.grade().progress == 0
        if row["id"] % 4 == 0:
            actions = environment.expert_actions()
            for action in actions:
                environment.step(action)
            solved += environment.grade().progress == 1
    # The oracle opens another door than the one that AgentBoard asks for, or finds a shorter way than its subgoals.
    assert solved >= 11


def test_babyai_is_played_in_agentboards_words(board: Write, playing: Callable[[str], Environment]) -> None:
    pytest.importorskip("minigrid")
    board("babyai", ball_line(3, BALL))
    environment = playing("babyai")
    task = environment.task("agentboard", "test", 0)
    first = environment.reset(task).text
    seen = "In front of you in this room, you can see several objects: There is a red ball 1 right in front of you 2 "
    assert first.startswith(f"Your task: go to the red ball. {seen}steps away.  The room has walls around you. ")
    assert first.endswith("You are not carrying anything.")
    offered = environment.step("check available actions").text
    assert offered.startswith(
        "You can take the following actions: turn left, turn right, move forward, pickup red ball"
    )
    assert offered.endswith(", go to red ball 1, check available actions")
    assert environment.step("go to red ball 2").text.startswith("The action is not recognized.")
    assert environment.step("drop").text == "You cannot drop the object, as you are not carrying anything."
    assert environment.step("toggle").text.startswith("The action is not recognized.")
    # None of these was a move, so nothing counts yet, though a ball is in view.
    assert environment.grade().progress == 0
    assert "red ball 1 right in front of you 1 steps" in environment.step("move forward").text
    # A move counts for one subgoal, the first that is left; half of them is not enough for an end.
    assert environment.grade().progress == 0.5
    assert environment.step("go to red ball 1").text == "No change in state."
    assert not environment.step("turn left").done
    observation = environment.step("turn right")
    assert observation.done
    assert observation.text.endswith("\n The task is completed.")
    assert environment.grade().success
    assert environment.grade().outcome == 1


def test_a_board_is_brought_back(board: Write, playing: Callable[[str], Environment]) -> None:
    pytest.importorskip("minigrid")
    board("babyai", ball_line(1, BALL, "BabyAI-GoToObjMazeS7-v0"), ball_line(3, BALL))
    environment = playing("babyai")
    environment.reset(environment.task("agentboard", "test", 1))
    environment.step("move forward")
    state, before = environment.snapshot(), environment.fingerprint()
    environment.step("turn left")
    assert environment.fingerprint() != before
    environment.reset(environment.task("agentboard", "test", 0))
    environment.restore(state)
    assert environment.fingerprint() == before
    assert environment.grade().progress == 0.5


def test_keys_doors_and_hands(board: Write, playing: Callable[[str], Environment]) -> None:
    """The way of the oracle through a locked door uses every action that a door or a key has."""
    pytest.importorskip("minigrid")
    subgoals = ["You are carrying a ** key.", "There is a ** open door **"]
    board("babyai", *(ball_line(number, subgoals, "BabyAI-Unlock-v0") for number in range(4)))
    environment = playing("babyai")
    used, texts = set(), []
    for index in range(4):
        task = environment.task("agentboard", "test", index)
        environment.reset(task)
        for action in environment.expert_actions():
            texts.append(environment.step(action).text)
            used.add(action.split(" ")[0])
    assert {"pickup", "toggle", "turn"} <= used
    assert any("You are carrying a " in text for text in texts)
    assert any(" open door 1 " in text for text in texts)


def test_broken_lines_are_left_out_and_told(board: Write, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("minigrid")
    good = ball_line(3, BALL)
    path = board(
        "babyai",
        good,
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
        [1],
        good,
        good | {"id": "7"},
        good | {"id": 7, "goal": ""},
        good | {"id": 11, "subgoals": []},
        good | {"id": 15, "subgoals": ["**"]},
        good | {"id": 19, "additional_info": {"subtask": "BabyAI-Nowhere-v0"}},
        good | {"id": 16},
        ball_line(23, BALL),
    )
    cls = environment_class("babyai")
    assert cls.size("agentboard", "test") == 2
    left_out = used_data(sets(TaskSet("babyai", split="test", count=2)))["babyai"]["left_out"]
    assert len(left_out) == 11
    assert left_out["babyai/test.jsonl:2"] == left_out["babyai/test.jsonl:3"] == "no JSON"
    assert left_out["babyai/test.jsonl:4"] == "no UTF-8"
    assert left_out["babyai/test.jsonl:7"] == "its id stands in an earlier line"
    assert left_out["babyai/test.jsonl:13"].startswith("its level does not begin as its init_obs says")
    assert "2 entries are used, left out are " in caplog.text
    path.write_text("nothing")
    cls_of_others = environment_class("babyai")
    assert cls_of_others is cls


def test_a_file_without_a_usable_line_is_an_error(board: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minigrid")
    path = board("babyai", b"nothing")
    with pytest.raises(UserError, match=rf"AGENTBOARD_DATA: no line of {path} can be used"):
        environment_class("babyai").size("agentboard", "test")
    monkeypatch.setenv("AGENTBOARD_DATA", str(path.parent))
    with pytest.raises(UserError, match=r"holds no data/babyai/test.jsonl: get AgentBoard's data"):
        environment_class("babyai").size("agentboard", "test")


def test_lines_say_what_is_wrong_with_them() -> None:
    assert Line.read(json.dumps(line(2, "do it", ["a"], var="12"))).count("var") == 12
    for text, reason in (
        ('"text"', "no JSON object"),
        (json.dumps(line(True, "do it", ["a"])), "its id is no number"),
        (json.dumps(line(1, "do it", ["a"]) | {"additional_info": []}), "its additional_info is no object"),
    ):
        with pytest.raises(ValueError, match=reason):
            Line.read(text)
    with pytest.raises(ValueError, match="a subgoal is no text"):
        _ = Line.read(json.dumps(line(1, "do it", [1]))).patterns
    with pytest.raises(ValueError, match="has no number var"):
        Line.read(json.dumps(line(1, "do it", ["a"], var=-1))).count("var")


# --- which tasks a set stands for


def sets(*held_out: TaskSet) -> Tasks:
    return Tasks(demonstrations=[], trees=[], held_in=[], held_out_environments=list(held_out))


def test_a_set_without_kinds_is_of_one_provenance(board: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minigrid")
    every = TaskSet("babyai", split="test", count=1)
    generated = chosen_kinds(every)
    assert "agentboard" not in generated
    assert len(generated) == 31
    before = used_data(sets(every))
    board("babyai", ball_line(3, BALL))
    assert chosen_kinds(every) == ("agentboard",)
    assert chosen_kinds(TaskSet("babyai", split="train", count=1)) == generated
    (task,) = tasks([every], seed=5)
    assert task.id == f"babyai.agentboard.test.0.{task.data}"
    assert find_task(task.id, seed=0) == task
    with pytest.raises(UserError, match="babyai has 1 tasks of these kinds in test"):
        tasks([TaskSet("babyai", split="test", count=2)], seed=5)
    # A run that began with generated tasks does not go on with others.
    now = used_data(sets(every))
    assert other_data(before, now) == ""
    assert other_data(before, now, same_sets=True).startswith(
        "babyai.action_obj_door.test was there (no official data)"
    )
    assert describe("babyai")["kinds"][-1] == "agentboard"
    monkeypatch.delenv("AGENTBOARD_DATA")
    assert "agentboard" not in describe("babyai")["kinds"]


def test_what_is_asked_for_and_absent_is_refused_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AGENTBOARD_DATA", "ALFWORLD_DATA"):
        monkeypatch.delenv(name, raising=False)
    asked = TaskSet("babyai", kinds=["agentboard"], split="test", count=1)
    with pytest.raises(
        UserError, match=r"babyai agentboard in test are not here: get AgentBoard's data .* AGENTBOARD_DA"
    ):
        tasks([asked], seed=0)
    with pytest.raises(UserError, match="babyai agentboard has no official tasks in train: ask for the split test"):
        tasks([TaskSet("babyai", kinds=["agentboard"], count=1)], seed=0)
    with pytest.raises(UserError, match="are not here: get AgentBoard's data"):
        find_task("babyai.agentboard.test.0", seed=0)
    kind = "pick_and_place_simple"
    assert len(tasks([TaskSet("alfworld", kinds=[kind], split="test", count=1)], seed=0)) == 1
    with pytest.raises(
        UserError, match=rf"alfworld {kind} in test are not here: get ALFWorld's games \(run `alfworld-do"
    ):
        tasks([TaskSet("alfworld", kinds=[kind], split="test", count=1, official=True)], seed=0)
    with pytest.raises(UserError, match="maze has no official data"):
        tasks([TaskSet("maze", split="test", count=1, official=True)], seed=0)


# --- ScienceWorld


def test_scienceworld_counts_agentboards_subgoals(board: Write, playing: Callable[[str], Environment]) -> None:
    pytest.importorskip("scienceworld")
    environment = playing("scienceworld")
    board(
        "scienceworld",
        line(
            0, "see the kitchen, then wait", ["You move to the (kitchen|hallway)", "you wait"], env_name="boil", var=3
        ),
        line(1, "light a lamp", ["bulb"], env_name="task-3-power-component", var=0),
        line(2, "boil", ["("], env_name="boil", var=3),
        line(3, "boil", ["steam"], env_name="boil", var=30),
        line(4, "boil", ["steam"], env_name="stew", var=0),
        line(5, "boil", ["steam"], env_name="boil", var="many"),
    )
    assert environment.size("agentboard", "test") == 2
    task = environment.task("agentboard", "test", 0)
    assert step_limit(task, 100) == 30
    assert step_limit(Task("scienceworld", "boil", "test", 0), 1000) == environment.max_steps
    text = environment.reset(task).text
    assert text.startswith("Your task: see the kitchen, then wait\nThis ")
    assert "In your inventory, you see:" in text
    assert "go OBJ" in environment.step("check valid actions").text
    assert environment.grade().progress == 0
    door = next(name for name in ("kitchen", "hallway") if f"door to the {name} (that is open)" in text)
    before = environment.fingerprint()
    assert not environment.step(f"go to {door}").done
    assert environment.grade().progress == 0.5
    assert environment.fingerprint() != before
    observation = environment.step("wait1")
    assert observation.done == environment.grade().success == ("you wait" in observation.text.lower())
    power = environment.task("agentboard", "test", 1)
    assert environment.reset(power) == environment.reset(power)
    # The engine's own way leads past what AgentBoard looks for.
    assert environment.expert_actions()


# --- ALFWorld


def test_alfworld_counts_agentboards_subgoals(
    board: Write, playing: Callable[[str], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = playing("alfworld")
    from agentrm.environments.alfworld.games import generated_game

    kind = "pick_and_place_simple"
    game = generated_game(Task("alfworld", f"{kind}_small", "test", 0))
    folder = tmp_path / "games" / "json_2.1.1" / "valid_unseen" / f"{kind}-X-None-Y-1" / "trial_T1"
    folder.mkdir(parents=True)
    text = {"solvable": True, "pddl_problem": game.problem, "grammar": f'"Your task is to: {game.goal}."'}
    (folder / "game.tw-pddl").write_text(json.dumps(text))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "games"))
    plain = environment.task(kind, "test", 0)
    description = f"{kind}-X-None-Y-1/trial_T1"
    subgoals = [r"You pick up the .* from", r"You put the .* in/on the .*"]
    board(
        "alfworld", line(0, "", [""]), line(1, game.goal, subgoals, description=description), line(2, "x", ["y"], a="b")
    )
    task = environment.task(kind, "test", 0)
    assert task.data != plain.data
    environment.reset(task)
    reached = []
    for action in environment.expert_actions():
        environment.step(action)
        reached.append(environment.grade().progress)
    # Two subgoals and the goal are three; the engine now says "move" where AgentBoard's patterns say "put".
    assert reached[-1] == 1
    assert set(reached) == {0, 1 / 3, 1}
    state = environment.snapshot()
    environment.reset(task)
    assert environment.grade().progress == 0
    environment.restore(state)
    assert environment.grade() == environment.grade()
    assert environment.grade().progress == 1


# --- Jericho


def test_jericho_plays_agentboards_games(
    board: Write, playing: Callable[[str], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = Path(os.environ.get("AGENTRM_TEST_DATA", ""))
    if not (stories / "zork1.z3").is_file():
        pytest.skip("set AGENTRM_TEST_DATA to a directory with zork1.z3")
    environment = playing("jericho")
    for name in ("zork1.z3", "zork2.z3"):
        shutil.copy(stories / name, tmp_path / name)
    (tmp_path / "jewel.z5").write_bytes(b"no story")
    monkeypatch.setenv("JERICHO_ROMS", str(tmp_path))
    goal, subgoals = "Find a way into the house.", ["Behind House", "with the window, open!"]
    board(
        "jericho",
        line(0, goal, ["North of House"], subtask="zork2"),
        line(1, goal, subgoals, subtask="zork1"),
        line(2, goal, ["x"], subtask="jewel"),
        line(3, goal, ["x"], subtask="library"),
        line(4, goal, ["x"], subtask="../zork1"),
        line(5, goal, ["x"]),
    )
    assert environment.size("adventure", "test") == 2
    used = used_data(sets(TaskSet("jericho", kinds=["adventure"], split="test", count=1)))["jericho"]["left_out"]
    assert len(used) == 4
    assert used["library"].startswith("a game of AgentBoard's whose story file is not in JERICHO_ROMS")
    task = environment.task("adventure", "test", 1)
    assert environment.reset(task).text.startswith(f"{goal}\n\nZORK I")
    environment.step("north")
    assert environment.grade().progress == 0
    environment.step("east")
    assert environment.grade().progress == 0.5
    assert environment.expert_actions() == []
    environment.step("north")
    environment.step("east")
    state = environment.snapshot()
    observation = environment.step("open window")
    assert environment.grade().progress == 0.5
    assert not observation.done
    environment.restore(state)
    assert environment.grade().progress == 0.5


def test_an_observation_counts_for_one_subgoal_of_a_story() -> None:
    story = pytest.importorskip("agentrm.environments.jericho.story")
    texts = ("the door", "is open")
    first = story.observed("[Your score has gone up]\nThe door:  IS  open.  the -door is\nopen", texts, (False, False))
    assert first == (True, False)
    assert story.observed("the door is open", texts, first) == (True, True)
    assert story.observed("nothing", texts, first) == first


# --- PDDL


def test_pddl_counts_as_agentboard_does(
    playing: Callable[[str], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = playing("pddl")
    (tmp_path / "blockworld").mkdir()
    (tmp_path / "blockworld" / "problem1.pddl").write_text(
        """(define (problem two) (:domain blocksworld-4ops) (:objects b1 b2 b3) (:init (arm-empty) (on-table b1)
        (on-table b2) (on-table b3) (clear b1) (clear b2) (clear b3)) (:goal (and (on b1 b2) (on-table b3))))"""
    )
    monkeypatch.setenv("AGENTBOARD_PDDL", str(tmp_path))
    environment.reset(environment.task("blocksworld", "test", 0))
    assert environment.grade().progress == 0
    environment.step("stack b1 on b2")
    assert environment.grade().progress == 0
    environment.step("pickup b1")
    assert environment.grade().progress == 0.5
    environment.step("stack b1 on b2")
    assert environment.grade().outcome == environment.grade().progress == 1


def test_pddl_takes_the_problems_that_the_lines_name(
    board: Write, playing: Callable[[str], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = playing("pddl")
    (tmp_path / "blockworld").mkdir()
    for number, goal in enumerate(("(on b1 b2)", "(on b2 b1)", "(and (on b1 b2) (on b2 b3))", "(odd")):
        (tmp_path / "blockworld" / f"problem{number}.pddl").write_text(
            f"""(define (problem p) (:domain blocksworld-4ops) (:objects b1 b2 b3) (:init (arm-empty) (on-table b1)
            (on-table b2) (on-table b3) (clear b1) (clear b2) (clear b3)) (:goal {goal}))"""
        )
    monkeypatch.setenv("AGENTBOARD_PDDL", str(tmp_path))
    board(
        "pddl",
        line(0, "Stack.", ["b2 is on b3.", "b1 is on b2."], subtask="blockworld"),
        line(1, "Stack.", ["b2 is on b1."], subtask="blockworld"),
        line(2, "Stack.", ["b9 is on b1."], subtask="blockworld"),
        line(3, "Stack.", ["b2 is on b1."], subtask="hanoi"),
        line(4, "Carry.", ["ball1 is at roomb."], subtask="gripper"),
        line(5, "Stack.", [], subtask="blockworld"),
    )
    goals = []
    for index in range(environment.size("blocksworld", "test")):
        text = environment.reset(environment.task("blocksworld", "test", index)).text
        goals.append(text.split("Goal: ")[1].split("\n")[0])
    assert [len(each.split(". ")) for each in goals] == [2, 1]
    left_out = environment.published("blocksworld", "test").left_out
    assert left_out["pddl/test.jsonl, id 2"] == "its goal is that of no problem that can be played"
    assert left_out["pddl/test.jsonl:4"] == "its subtask hanoi is no domain"
    assert len(left_out) == 4


# --- ToolQuery


def test_recorded_answers_stand_for_the_live_tools(board: Write, playing: Callable[[str], Environment]) -> None:
    environment = playing("toolquery")
    calls = [
        "Action: get_user_current_date with Action Input: {}",
        {"Action": 'get_latitude_longitude with Action Input: {"name": "Paris"}'},
        'finish with Action Input: {"answer": 48.85}',
    ]
    results = ["2023-06-01", [{"name": "Paris", "latitude": 48.85, "longitude": 2.35}], 48.85]
    board(
        "tool-query",
        line(0, "How far north is Paris?", results, tool="weather", action_path=calls, answer=48.85),
        line(1, "Who played it?", ["x"], tool="movie", action_path=["fly with Action Input: {}"], answer="x"),
        line(2, "What is it?", ["x"], tool="weather", answer="x"),
        line(3, "What is it?", ["x", "y"], tool="weather", action_path=calls[:1], answer="x"),
    )
    kind = "weather_recorded"
    assert environment.size(kind, "test") == 1
    assert environment.size("movie_recorded", "test") == 0
    # They answer their own way alone, so that nobody gets them who does not name them.
    assert chosen_kinds(TaskSet("toolquery", split="test", count=1)) == ("weather", "movie", "academia")
    task = environment.task(kind, "test", 0)
    assert environment.reset(task).text.endswith("Goal: How far north is Paris?")
    assert environment.tools(kind) == environment.tools("weather")
    other = environment.step('get_latitude_longitude with Action Input: {"name": "Rome"}')
    assert other.text == "ERROR | get_latitude_longitude: there is no recorded answer to this call"
    plan = environment.expert_actions()
    assert plan[-1] == 'finish with Action Input: {"answer": 48.85}'
    for action, said, progress in zip(plan, results, (1 / 3, 2 / 3, 1), strict=True):
        observation = environment.step(action)
        assert observation.text == (said if isinstance(said, str) else json.dumps(said)) or observation.done
        assert environment.grade().progress == pytest.approx(progress)
    assert environment.grade().success
    state = environment.snapshot()
    environment.reset(Task("toolquery", "weather", "test", 0))
    environment.restore(state)
    assert environment.grade().success

import os
from pathlib import Path

import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.registry import make

pytest.importorskip("jericho")
pytest.importorskip("textworld")


@pytest.fixture
def environment():
    found = make("jericho")
    yield found
    found.close()


@pytest.fixture
def roms(monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(os.environ.get("AGENTRM_TEST_DATA", ""))
    if not (folder / "zork1.z3").is_file():
        pytest.skip("set AGENTRM_TEST_DATA to a directory with zork1.z3, zork2.z3 and zork3.z3")
    monkeypatch.setenv("JERICHO_ROMS", str(folder))
    return folder


def test_a_game_opens_with_its_goal(environment) -> None:
    text = environment.reset(Task("jericho", "quest", "train", 0)).text
    assert text.startswith(environment._script.goal)
    assert "$" not in text
    assert ">" not in text
    assert "\n-= " in text


def test_every_step_of_the_walkthrough_counts_once(environment) -> None:
    environment.reset(Task("jericho", "quest", "train", 0))
    actions = environment.expert_actions()
    total = len(environment._script.milestones) + 1
    reached = []
    for action in actions:
        observation = environment.step(action)
        reached.append(round(environment.grade().progress * total))
    assert reached[-1] == total
    assert reached == sorted(reached)
    assert set(reached) | {0} == set(range(total + 1))
    assert observation.done
    assert "*** The End ***" in observation.text


def test_milestones_are_reached_on_a_detour_too(environment) -> None:
    environment.reset(Task("jericho", "errands", "train", 0))
    actions = environment.expert_actions()
    for action in actions[:-1]:
        environment.step("look")
        environment.step("examine nothing")
        environment.step(action)
    total = len(environment._script.milestones) + 1
    assert environment.grade().progress == pytest.approx((total - 1) / total)
    assert environment.step(actions[-1]).done
    assert environment.grade().success


def test_admissible_actions_change_something(environment) -> None:
    environment.reset(Task("jericho", "quest", "train", 0))
    before = environment.fingerprint()
    found = environment.admissible_actions()
    assert environment.fingerprint() == before
    assert environment.expert_actions()[0] in found


def test_sizes(environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JERICHO_ROMS", raising=False)
    assert [environment.size("adventure", split) for split in ("train", "valid", "test")] == [1000, 100, 100]


def test_a_folder_without_stories_is_refused(environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JERICHO_ROMS", str(tmp_path))
    with pytest.raises(UserError, match="holds no story file"):
        environment.size("adventure", "test")


def test_odd_files_of_a_collection_are_left_out(
    environment, roms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One cut short ends the interpreter, and with it the process that it runs in."""
    zork = (roms / "zork1.z3").read_bytes()
    files = {"zork1.z3": zork, "sherbet.z5": zork, "mine.z5": zork, "zork2.z3": zork[:30_000], "enter.z5": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "zork3.z5").mkdir()
    monkeypatch.setenv("JERICHO_ROMS", str(tmp_path))
    found = environment.official.find("adventure", "test")
    assert [entry.path.name for entry in found.entries] == ["zork1.z3"]
    assert found.left_out == {
        "enter.z5": "ends the program that reads it",
        "mine.z5": "no game that jericho knows",
        "sherbet.z5": "a game for which jericho has no walkthrough",
        "zork2.z3": "ends the program that reads it",
    }
    assert environment.data("adventure", "test") in environment.task("adventure", "test", 0).id
    (told,) = caplog.messages
    assert "1 entries are used, left out are 2 x ends the program that reads it: enter.z5, zork2.z3; 1 x" in told


def test_official_stories_are_played_to_the_last_milestone(environment, roms: Path) -> None:
    assert environment.size("adventure", "test") == 3
    for index in range(3):
        task = environment.task("adventure", "test", index)
        assert "Places to reach: " in environment.reset(task).text
        actions = environment.expert_actions()
        assert 10 < len(actions) <= environment.max_steps
        for number, action in enumerate(actions):
            assert environment.step(action).done == (number == len(actions) - 1)
        assert environment.grade().success


def test_official_stories_can_be_restored(environment, roms: Path) -> None:
    task = environment.task("adventure", "test", 0)
    environment.reset(task)
    actions = environment.expert_actions()
    for action in actions[:10]:
        environment.step(action)
    state, expected = environment.snapshot(), (environment.fingerprint(), environment.grade())
    rest = [environment.step(action) for action in actions[10:]]
    environment.reset(environment.task("adventure", "test", 2))
    environment.restore(state)
    assert (environment.fingerprint(), environment.grade()) == expected
    assert [environment.step(action) for action in actions[10:]] == rest

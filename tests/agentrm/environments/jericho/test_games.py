import re
from pathlib import Path

import pytest

pytest.importorskip("jericho")
pytest.importorskip("textworld")
from agentrm.core.task import SPLITS, Task
from agentrm.environments.jericho.games import STYLES, draws, generated_script
from agentrm.environments.support import split_of

TASK = Task("jericho", "quest_small", "train", 0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "agentrm" / "stories"


def test_a_story_is_compiled_once(cache: Path) -> None:
    first = generated_script(TASK)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".z8"]
    written = first.path.stat().st_mtime_ns
    assert generated_script(TASK) == first
    assert first.path.stat().st_mtime_ns == written
    assert first.ends
    assert 0 < len(first.milestones) < len(first.actions)
    assert first.path.read_bytes()[0x12:0x18] == b"000000"


def test_a_story_is_the_same_in_another_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = generated_script(TASK)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    second = generated_script(TASK)
    assert first.path != second.path
    assert first.path.read_bytes() == second.path.read_bytes()
    assert (first.goal, first.actions, first.milestones) == (second.goal, second.actions, second.milestones)


def test_no_walkthrough_is_in_two_splits() -> None:
    found = {
        split: {
            repr(("quest_small", next(draws(Task("jericho", "quest_small", split, index)))[1].metadata["walkthrough"]))
            for index in range(6)
        }
        for split in SPLITS
    }
    assert all(split_of(walkthrough) == split for split, members in found.items() for walkthrough in members)
    assert all(len(members) > 4 for members in found.values())


@pytest.mark.parametrize("kind", ["quest_small", "quest", "errands"])
def test_games_are_of_their_style(kind: str) -> None:
    _, game = next(draws(Task("jericho", kind, "train", 1)))
    style = STYLES[kind]
    assert style.rooms[0] <= len(game.world.rooms) <= style.rooms[1]
    assert len(game.quests) == style.goals
    assert style.actions[0] <= len(game.metadata["walkthrough"]) <= style.actions[1] * style.goals
    assert len(re.findall(r"[.!]", game.objective)) <= 2 + style.goals

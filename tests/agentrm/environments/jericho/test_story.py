import json
import os
from pathlib import Path

import pytest

pytest.importorskip("jericho")
from agentrm.environments.jericho.story import LOST, Script, Story, _clean, holds, known_script, walk

# Of Zork I's object table: the hero, the mailbox, and the places and the leaflet by their numbers.
HOLDER = 32


@pytest.fixture(scope="module")
def zork() -> Path:
    path = Path(os.environ.get("AGENTRM_TEST_DATA", "")) / "zork1.z3"
    if not path.is_file():
        pytest.skip("set AGENTRM_TEST_DATA to a directory with zork1.z3")
    return path


def moved(story: Story, action: str) -> list[tuple[int, int]]:
    """(thing, new holder) of all things that an action moves."""
    before = story.objects()
    story.step(action)
    after = story.objects()
    changed = (before[:, HOLDER] != after[:, HOLDER]).nonzero()[0].tolist()
    return [(thing, int(after[thing, HOLDER])) for thing in changed]


def test_the_object_table_says_who_holds_what(zork: Path) -> None:
    story = Story(zork, seed=1)
    assert story.reset().endswith("There is a small mailbox here.")
    assert story.objects().shape == (250, 33)
    [(thief, _)] = moved(story, "wait")
    hero = next(thing for thing, _ in moved(story, "north") if thing != thief)
    story.reset()
    story.step("open mailbox")
    assert [holder for thing, holder in moved(story, "take leaflet") if thing != thief] == [hero + 1]
    story.close()


def test_a_state_can_be_saved_and_restored(zork: Path) -> None:
    story = Story(zork, seed=1)
    story.reset()
    story.step("open mailbox")
    state, content = story.state(), story.content()
    expected = story.step("take leaflet"), story.content()
    story.restore(state)
    assert story.content() == content
    assert (story.step("take leaflet"), story.content()) == expected
    story.close()


@pytest.mark.parametrize("command", ["save", "look. quit", "QUIT", "north then restart", "undo", "restore, wait"])
def test_the_interpreter_is_out_of_reach(zork: Path, command: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    story = Story(zork, seed=1)
    story.reset()
    before = story.content()
    assert story.step(command) == ("That is not a thing to do in this story.", "")
    assert story.content() == before
    assert list(tmp_path.iterdir()) == []
    story.close()


def test_zorks_walkthrough_becomes_milestones(zork: Path) -> None:
    script = known_script(zork, max_steps=8)
    assert Script.of(zork, json.loads(json.dumps(script.fields()))) == script
    assert script.actions == ("n", "n", "u", "get egg", "d", "s", "e", "open window")
    # Back down and south makes nothing true that was not true before.
    assert len(script.milestones) == 6
    assert not script.ends
    assert "Up a Tree, Behind House." in script.goal
    story = Story(zork, script.seed)
    story.reset()
    reached = []
    for action in script.actions:
        story.step(action)
        reached.append(sum(holds(story.objects(), milestone) for milestone in script.milestones))
    assert reached[0] == 1
    story.close()


def test_a_file_without_a_walkthrough_has_no_script(zork: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.z3"
    unknown.write_bytes(zork.read_bytes())
    with pytest.raises(ValueError, match="no game that jericho knows"):
        known_script(unknown, max_steps=8)
    (tmp_path / "sherbet.z5").write_bytes(zork.read_bytes())
    with pytest.raises(ValueError, match="jericho has no walkthrough"):
        known_script(tmp_path / "sherbet.z5", max_steps=8)


def test_a_death_is_the_end_as_jericho_has_it(zork: Path) -> None:
    story = Story(zork, seed=1)
    story.reset()
    ends = []
    for action in ("south", "east", "open window", "in", "up", "north"):
        text, end = story.step(action)
        ends.append(end)
    assert "You have died" in text
    assert ends == [""] * 5 + [LOST]
    story.close()


def test_a_walk_stops_where_nothing_follows(zork: Path) -> None:
    steps, won = walk(zork, 1, ["look", "open mailbox"])
    assert not won
    assert [bool(facts) for facts, _ in steps] == [False, True]
    assert steps[1][1] == "Opening the small mailbox reveals a leaflet."


def test_prompts_and_status_lines_are_left_out() -> None:
    assert (
        _clean("> West of House      Score: 0   Moves: 1  \nOpened.\n\n\n\nA leaflet.\n>  ") == "Opened.\n\nA leaflet."
    )

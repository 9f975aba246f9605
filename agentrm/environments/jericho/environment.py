"""Jericho: interactive fiction in the Z-machine, made by TextWorld or the user's own story files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments import agentboard
from agentrm.environments.base import Turn
from agentrm.environments.jericho import DATA_VARIABLE, MAX_STEPS, SOURCE
from agentrm.environments.official import OfficialData, OfficialEnvironment, Published
from agentrm.environments.support import digest, engine_import

if TYPE_CHECKING:
    from agentrm.environments.jericho.story import Script, Story

OFFICIAL_KIND = "adventure"
# Each game takes a second or more to compile and 0.4 MB in the cache.
SIZES = {"train": 1_000, "valid": 100, "test": 100}
COMMON = ("look", "inventory", "wait")
MOVES = ("north", "south", "east", "west", "up", "down")


def _published(folder: Path, kind: str, split: str) -> Published:
    with engine_import("Jericho", "jericho"):
        from agentrm.environments.jericho.official import published_stories
    return published_stories(folder)


class Jericho(OfficialEnvironment):
    """Story files in the Z-machine; a kind is a style of quest, from two actions to ten.

    Games are made by TextWorld with its own Inform 7, compiled on first use and kept in the user's cache directory; a
    game belongs to the split that its walkthrough hashes to. Where the environment variable JERICHO_ROMS names a folder
    of story files, those that jericho has a walkthrough for (by content, else by name) are the tests of the kind
    `adventure`, sorted by name: to do what the first `max_steps` actions of the walkthrough do.

    Outcome and progress are the share of milestones reached, in any order: what the actions of the walkthrough are the
    first to make true in the story's object table (the player in a room, a thing held or put somewhere, opened,
    unlocked), and the victory of a made game.

    Where AGENTBOARD_DATA names AgentBoard's data beside the story files, the tests are its 20 games in its order, with
    its goals and its own subgoals, which are looked for in what the story says; each observation counts for one.
    """

    name: ClassVar[str] = "jericho"
    engine: ClassVar[str] = "jericho 3.3.1, games by textworld 1.7.0"
    licence: ClassVar[str] = "GPL-2.0-or-later (jericho); games made by TextWorld: MIT"
    kinds: ClassVar[tuple[str, ...]] = ("quest_small", "quest", "errands", OFFICIAL_KIND)
    max_steps: ClassVar[int] = MAX_STEPS
    official: ClassVar[tuple[OfficialData, ...]] = (
        OfficialData(
            DATA_VARIABLE,
            lambda kind, split: (kind, split) == (OFFICIAL_KIND, "test"),
            _published,
            SOURCE,
            (agentboard.DATA_VARIABLE,),
        ),
    )
    sizes: ClassVar[Mapping[str, int]] = SIZES
    snapshots: ClassVar[bool] = True
    max_live: ClassVar[int | None] = 64
    instruction: ClassVar[str] = (
        "You play a text adventure: type what the hero does, in short sentences of the form verb and thing, and read "
        "what happens. Actions that most stories understand: look, inventory, go <direction>, examine <thing>, take "
        "<thing>, take <thing> from <thing>, drop <thing>, put <thing> on <thing>, insert <thing> into <thing>, open "
        "<thing>, close <thing>, unlock <thing> with <thing>, lock <thing> with <thing>, eat <thing>."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            "Your task is to lay the feather on the shelf.\n\n-= Cellar =-\nYou are in a cellar. There is a crate "
            "here, which is closed. There is an exit to the east.",
            "I see no feather. It may be in the crate.",
            "open crate",
        ),
        Turn("You open the crate, revealing a feather.", "There it is.", "take feather from crate"),
        Turn(
            "You take the feather from the crate.",
            "This room has no shelf, so I look for one behind the only exit.",
            "go east",
        ),
        Turn(
            "-= Library =-\nYou enter a library. You can see a shelf. There is nothing on it. There is an exit to the "
            "west.",
            "Here is the shelf.",
            "put feather on shelf",
        ),
    )

    def __init__(self) -> None:
        with engine_import("Jericho", "jericho"):
            from agentrm.environments.jericho import games as jericho_games
            from agentrm.environments.jericho import official as jericho_official
            from agentrm.environments.jericho import story as jericho_story
        self._games, self._official, self._stories = jericho_games, jericho_official, jericho_story
        self._task: Task | None = None
        self._script: Script | None = None
        self._story: Story | None = None
        self._reached: tuple[bool, ...] = ()
        self._end = ""

    def reset(self, task: Task) -> Observation:
        self.check(task)
        entry = self.entry(task)
        script = self._official.script_of(entry) if entry else self._games.generated_script(task)
        self._load(script)
        assert self._story is not None
        assert self._script is not None
        opening = self._story.reset()
        self._task, self._end = task, ""
        self._reached = (False,) * (len(script.subgoals) or len(script.milestones))
        # TextWorld's own opening has a large banner before the goal.
        _, goal, rest = opening.partition(self._script.goal)
        return Observation(f"{goal}{rest}" if goal else f"{self._script.goal}\n\n{opening}")

    def step(self, action: str) -> Observation:
        story, script = self._live
        text, self._end = story.step(action)
        if script.subgoals:
            self._reached = self._stories.observed(text, script.subgoals, self._reached)
            return Observation(text or "Nothing happens.", done=bool(self._end) or self._is_solved)
        objects = story.objects()
        self._reached = tuple(
            old or self._stories.holds(objects, milestone)
            for old, milestone in zip(self._reached, script.milestones, strict=True)
        )
        return Observation(text or "Nothing happens.", done=bool(self._end) or self._is_solved)

    def grade(self) -> Grade:
        _, script = self._live
        # The victory is the last milestone of a story that ends with it.
        progress = 1.0 if self._is_solved else sum(self._reached) / (len(self._reached) + script.ends)
        return Grade(outcome=progress, progress=progress, success=self._is_solved)

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        _, script = self._live
        self.reset(self._task)
        return [] if script.subgoals else list(script.actions)

    def admissible_actions(self) -> list[str]:
        """Looking, waiting, and those moves and actions of the walkthrough that change something now."""
        story, script = self._live
        state, before = story.state(), story.objects()
        actions = list(COMMON)
        for action in dict.fromkeys((*MOVES, *script.actions)):
            story.step(action)
            if action not in actions and (story.objects() != before).any():
                actions.append(action)
            story.restore(state)
        return actions

    def fingerprint(self) -> str:
        story, _ = self._live
        return digest(self._task, story.content(), self._reached, self._end)

    def snapshot(self) -> Any:
        story, script = self._live
        return self._task, script, story.state(), self._reached, self._end

    def restore(self, state: Any) -> None:
        self._task, script, memory, self._reached, self._end = state
        self._load(script)
        assert self._story is not None
        self._story.restore(memory)

    def close(self) -> None:
        if self._story is not None:
            self._story.close()
        self._story, self._script = None, None

    def _load(self, script: Script) -> None:
        """Put a story into the machine, unless it is there."""
        if script != self._script or self._story is None:
            self.close()
            self._story, self._script = self._stories.Story(script.path, script.seed), script

    @property
    def _is_solved(self) -> bool:
        _, script = self._live
        return self._end == self._stories.WON if script.ends else all(self._reached)

    @property
    def _live(self) -> tuple[Story, Script]:
        assert self._story is not None and self._script is not None, "reset(task) comes first"
        return self._story, self._script

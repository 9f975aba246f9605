"""Story files made by TextWorld: seeded games, compiled by its Inform 7 on first use and kept in the user's cache."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from textworld.generator import QuestGenerationError, compile_game, make_game
from textworld.generator.data import KnowledgeBase
from textworld.generator.game import GameOptions

from agentrm.core.task import Task
from agentrm.environments.jericho.story import Script, walk
from agentrm.environments.support import derive_seed, digest, split_of

# A change of how games are made, other than of their style, needs another number: no cached file may pass for it.
RECIPE = 1
SEED = 1
_SERIAL = slice(0x12, 0x18)


def generated_script(task: Task) -> Script:
    """The story of a task, from the cache or made now (one to a few seconds)."""
    folder = user_cache_path("agentrm") / "stories"
    key = digest(RECIPE, version("textworld"), STYLES[task.kind], task)
    story, script = folder / f"{key}.z8", folder / f"{key}.json"
    if not (story.is_file() and script.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as directory:
            made = _make(task, Path(directory))
            (Path(directory) / "script.json").write_text(json.dumps(made.fields()))
            (Path(directory) / "script.json").replace(script)
            made.path.replace(story)
    return Script.of(story, json.loads(script.read_text()))


def _make(task: Task, directory: Path) -> Script:
    """Compile the first draw that its walkthrough wins: now and then the story takes one thing's name for another's."""
    for options, game in draws(task):
        options.path, options.force_recompile = str(directory / "story.z8"), True
        path = Path(compile_game(game, options))
        _undate(path)
        actions = tuple(game.metadata["walkthrough"])
        steps, won = walk(path, SEED, actions)
        if won and len(steps) == len(actions):
            return Script(path, SEED, game.objective, actions, tuple(facts for facts, _ in steps if facts), ends=True)
    raise AssertionError("draws never end")


def draws(task: Task) -> Iterator[tuple[GameOptions, Any]]:
    """Games of the task's kind, one after another, whose walkthroughs belong to the task's split."""
    style = STYLES[task.kind]
    for number in count():
        seed = derive_seed(task.seed, task.kind, task.split, task.index, number)
        with suppress(QuestGenerationError):
            options, game = style.draw(seed)
            walkthrough = game.metadata["walkthrough"]
            # TextWorld shortens a walkthrough where it sees how.
            is_long_enough = len(walkthrough) >= style.actions[0]
            if is_long_enough and split_of(repr((task.kind, walkthrough))) == task.split:
                yield options, game


@dataclass(frozen=True)
class Style:
    """What is drawn for a kind of game: inclusive ranges of rooms, of things, and of actions for each of its goals."""

    rooms: tuple[int, int]
    things: tuple[int, int]
    actions: tuple[int, int]
    goals: int = 1

    def draw(self, seed: int) -> tuple[GameOptions, Any]:
        """A game and its options. Raises QuestGenerationError where TextWorld finds no such quest."""
        rng = random.Random(seed)
        options = GameOptions()
        options.seeds = seed
        options.kb = _knowledge()
        options.nb_rooms = rng.randint(*self.rooms)
        options.nb_objects = rng.randint(*self.things)
        options.quest_length = rng.randint(*self.actions)
        options.nb_parallel_quests = self.goals
        # The goal is what the last action brings about; how to get there is for the player to find out.
        options.grammar.only_last_action = True
        return options, make_game(options)


STYLES = {
    "quest_small": Style(rooms=(2, 3), things=(3, 6), actions=(2, 4)),
    "quest": Style(rooms=(3, 6), things=(6, 12), actions=(5, 8)),
    "errands": Style(rooms=(3, 6), things=(8, 14), actions=(2, 4), goals=3),
    "adventure": Style(rooms=(5, 8), things=(10, 15), actions=(7, 10)),
}


@cache
def _knowledge() -> KnowledgeBase:
    """What TextWorld's houses are made of; it takes longer to read than a game to make."""
    return KnowledgeBase.default()


def _undate(path: Path) -> None:
    """Remove the day on which the file was compiled, which the story could say."""
    story = bytearray(path.read_bytes())
    story[_SERIAL] = b"000000"
    path.write_bytes(story)

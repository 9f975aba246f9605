"""Published story files, from the user's folder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentrm.core.errors import UserError
from agentrm.environments import agentboard
from agentrm.environments.jericho import DATA_VARIABLE, MAX_STEPS, SOURCE
from agentrm.environments.jericho.story import Script, Story, known_script, known_seed
from agentrm.environments.official import Published, announce
from agentrm.environments.screening import Entry, screen

_VERSION_8 = ("afflicted", "anchor", "snacktime", "partyfoul")


def published_stories(folder: Path) -> Published:
    """The story files of a folder that jericho can play through, by name; where AgentBoard's data is here too, its
    games. Raises UserError where there are none.
    """
    if agentboard.lines_file("jericho"):
        return _board_stories(folder)
    paths = sorted(path for path in folder.glob("*.[zZ][1-8]") if path.is_file() and not path.name.startswith("."))
    entries, left_out = screen(folder, paths, f"{__name__}:read_script", version("jericho"))
    announce(DATA_VARIABLE, folder, len(entries), left_out)
    if not entries:
        raise UserError(
            f"{DATA_VARIABLE}={folder} holds no story file (such as zork1.z5) that jericho can play through"
        )
    return Published.of(entries, left_out)


def read_script(path: Path) -> dict[str, Any]:
    """The fields of a story's script. Raises ValueError as `known_script` does; a broken file ends the process."""
    return known_script(path, MAX_STEPS).fields()


def script_of(entry: Entry) -> Script:
    """The script of a story that `published_stories` found."""
    return Script.of(entry.path, entry.value)


def read_story(path: Path) -> dict[str, Any]:
    """The seed of a story that the machine can play. Raises ValueError where it says nothing."""
    seed = known_seed(path)
    story = Story(path, seed)
    opening = story.reset()
    story.close()
    if not opening:
        raise ValueError("a story that says nothing")
    return {"seed": seed}


def _board_stories(folder: Path) -> Published:
    """AgentBoard's games in its order, whose story files lie in the folder."""
    lines, left_out = agentboard.read_lines("jericho", _game_name)
    files = [_story_file(folder, name) for _, name in lines]
    entries, broken = screen(folder, [file for file in files if file], f"{__name__}:read_story", version("jericho"))
    readable = {entry.path: entry for entry in entries}
    games = []
    for (line, name), path in zip(lines, files, strict=True):
        if path is None:
            left_out[name] = f"a game of AgentBoard's whose story file is not in {DATA_VARIABLE}"
        elif path not in readable:
            left_out[name] = broken[str(path.relative_to(folder))]
        else:
            entry = readable[path]
            script = Script(path, entry.value["seed"], line.goal, (), (), False, line.patterns)
            games.append(Entry(path, script.fields(), entry.content))
    announce(DATA_VARIABLE, folder, len(games), left_out)
    if not games:
        raise UserError(f"{DATA_VARIABLE}={folder} holds no story file of AgentBoard's games: get {SOURCE}")
    return Published.of(tuple(games), left_out)


def _game_name(line: agentboard.Line) -> str:
    """The game of a line. Raises ValueError where it names none."""
    line.patterns  # noqa: B018 - they must be texts
    names = [line.info.get(key) for key in ("subtask", "game_name", "game", "env_name", "name")]
    name = next((candidate for candidate in names if isinstance(candidate, str) and candidate), "")
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError("its additional_info names no game (subtask or game_name)")
    return name.lower()


def _story_file(folder: Path, name: str) -> Path | None:
    """The story of a game, whichever version of the Z-machine it is for; AgentBoard's own first."""
    own = 8 if name in _VERSION_8 else 5
    versions = (own, *(number for number in range(1, 9) if number != own))
    paths = (path for number in versions for path in (folder / f"{name}.z{number}", folder / f"{name}.Z{number}"))
    return next((path for path in paths if path.is_file()), None)

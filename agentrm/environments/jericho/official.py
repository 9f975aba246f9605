"""Published story files, from the user's folder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentrm.core.errors import UserError
from agentrm.environments.jericho import DATA_VARIABLE, MAX_STEPS
from agentrm.environments.jericho.story import Script, known_script
from agentrm.environments.official import Published, announce
from agentrm.environments.screening import Entry, screen


def published_stories(folder: Path) -> Published:
    """The story files of a folder that jericho can play through, by name. Raises UserError where there are none."""
    found = sorted(path for path in folder.glob("*.[zZ][1-8]") if path.is_file() and not path.name.startswith("."))
    entries, left_out = screen(folder, found, f"{__name__}:read_script", version("jericho"))
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

"""Where the commands' tables go."""

from __future__ import annotations

from rich.console import Console

# Columns of a table that goes into a file, where lines do not wrap.
_FILE_WIDTH = 200


def console() -> Console:
    """The terminal; tables for a file keep their lines whole."""
    terminal = Console(highlight=False)
    if not terminal.is_terminal:
        terminal.width = _FILE_WIDTH
    return terminal

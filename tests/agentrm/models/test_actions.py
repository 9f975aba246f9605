"""Reading actions: both forms, and what counts as malformed."""

from __future__ import annotations

import pytest

from agentrm.config.schema import ActionFormat
from agentrm.models.actions import parse, render

BARE, REACT = ActionFormat.bare, ActionFormat.react


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("go to desk 1", BARE, ("", "go to desk 1", False)),
        ("", BARE, ("", "", True)),
        ("go\nnorth", BARE, ("", "go\nnorth", True)),
        ("Thought: I look.\nAction: look", REACT, ("I look.", "look", False)),
        ("Action: look", REACT, ("", "look", False)),
        (
            "Thought: Action: is a word\nAction: open drawer 1\nObservation: it is",
            REACT,
            ("Action: is a word", "open drawer 1", False),
        ),
        ("I do not know", REACT, ("", "I do not know", True)),
        ("Thought: hm\nAction:  ", REACT, ("", "Thought: hm\nAction:", True)),
    ],
)
def test_parse(text: str, form: ActionFormat, expected: tuple[str, str, bool]):
    assert parse(text, form) == expected


@pytest.mark.parametrize("form", [BARE, REACT])
def test_rendered_turns_are_read_back(form: ActionFormat):
    assert parse(render("", "take mug 1", form), form) == ("", "take mug 1", False)
    assert parse(render("I need it", "take mug 1", REACT), REACT) == ("I need it", "take mug 1", False)

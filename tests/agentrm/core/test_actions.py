"""Reading actions: both forms, what is cut and taken off, and what counts as malformed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrm.core.actions import ActionFormat, parse, read, render
from agentrm.core.state import Proposal

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


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Thought: I search.\nAction: search[x]\n{}", "Thought: I search.\nAction: search[x]"),
        ("Thought: I search. Action: search[x]\n{}", "Thought: I search. Action: search[x]"),
        ("**Action:** `search[x]`\n\n{}", "**Action:** `search[x]`"),
        ("Action: search[x] {}", "Action: search[x]"),
        ("Observation: a shop\nAction: search[x]\n{}", "Observation: a shop\nAction: search[x]"),
    ],
)
@pytest.mark.parametrize(
    "imagined",
    [
        "Observation: results\nThought: I buy.\nAction: click[Buy Now]",
        "Observation: results",
        "Thought: then I buy.\nAction: click[Buy Now]",
        "Action: click[Buy Now]",
        "Observation 1: results\nAction 2: click[Buy Now]",
    ],
)
def test_a_turn_ends_where_it_imagines_what_follows(text: str, kept: str, imagined: str):
    turn = read(text.format(imagined), REACT, logprob=-2.0, tokens=9)
    assert (turn.action, turn.text, turn.malformed) == ("search[x]", kept, False)
    assert turn.removed.endswith(imagined)
    assert (turn.logprob, turn.tokens) == (-2.0, 9)


@pytest.mark.parametrize("label", ["**Observation:**", "observation:", "### Observation\uff1a", "Observation 1:"])
def test_decorated_observations_end_a_turn(label: str):
    turn = read(f"Action: look\n{label} a desk\nAction: buy", REACT)
    assert (turn.action, turn.text) == ("look", "Action: look")


@pytest.mark.parametrize(
    "text",
    [
        "**Action:** search[x]",
        "**Action: search[x]**",
        "**Action**: search[x]",
        "*Action:* search[x]",
        "__Action:__ search[x]",
        "`Action: search[x]`",
        "Action: ```\nsearch[x]\n```",
        "Action:\n```text\nsearch[x]\n```",
        "Action: ```search[x]```",
        "```\nAction: search[x]\n```",
        "Action: `search[x]`.",
        "Action: 'search[x]'",
        'Action: "search[x]".',
        "Action: \u201csearch[x]\u201d",
        "Action: **search[x]**",
        "Action: - search[x]",
        "Action 1: search[x]",
        "Action #2: search[x]",
        "action: search[x]",
        "ACTION : search[x]",
        "Action - search[x]",
        "Action \u2192 search[x]",
        "Action\uff1asearch[x]",
        "### Action\nsearch[x]",
        "### Action: search[x]",
        "- Action: search[x]",
        "2. **Action:** search[x]",
        "**Action**\n`search[x]`",
    ],
)
@pytest.mark.parametrize("thought", ["", "Thought: I look.\n", "**Thought:** I look.\n\n", "1. Thought 1: I look.\n"])
def test_decorations_do_not_reach_the_environment(thought: str, text: str):
    turn = read(thought + text, REACT)
    assert (turn.thought, turn.action, turn.malformed) == ("I look." if thought else "", "search[x]", False)
    assert turn.text == thought + text, "the conversation holds the turn as it was written"
    assert turn.removed or text.startswith("```"), "what was taken off is recorded"


@pytest.mark.parametrize(
    "action",
    [
        'search[red "large" shirt]',
        "search[Observation: a `red` *bird*, Action: fly]",
        'get_movie with Action Input: {"id": "x"}',
        'get_movie with Action Input: {\n  "id": "x",\n  "year": [1999]\n}',
        'write with Action Input: {"text": "a\\nObservation: b", "other": "Thought: c"}',
        'say "odysseus"',
        "go to desk 1.",
        "x = 2 ** 3 ** 4",
        "put snake_case_name in __init__.py",
    ],
)
def test_what_belongs_to_an_action_stays(action: str):
    for thought in ("", "I see."):
        assert read(render(thought, action, REACT), REACT) == Proposal(render(thought, action, REACT), action, thought)
    assert read(action, BARE) == Proposal(action, action)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("`look`", "look"),
        ("```\nlook\n```", "look"),
        ("**look**", "look"),
        ('"look"', "look"),
        ("Action: look", "look"),
        ("look\nObservation: a desk\nbuy", "look"),
        ("look Observation: a desk", "look"),
    ],
)
def test_bare_turns_are_read_likewise(text: str, action: str):
    turn = read(text, BARE)
    assert (turn.action, turn.malformed) == (action, False) and turn.removed


@pytest.mark.parametrize(
    "text", ["Action:", "Action:\nObservation: a desk", "I take action now", "Action: ``", "Action: **"]
)
def test_a_turn_without_an_action_is_malformed_and_answered_whole(text: str):
    turn = read(text, REACT)
    assert turn.malformed and turn.action == turn.text and text.startswith(turn.text)


def test_malformed_turns_end_as_well_where_they_imagine_an_answer():
    for form in (REACT, BARE):
        turn = read("I do not know.\nReally.\nObservation: a desk", form)
        assert (turn.text, turn.removed, turn.malformed) == ("I do not know.\nReally.", "Observation: a desk", True)


PIECES = st.sampled_from(
    [
        "Action:",
        "Observation:",
        "Thought:",
        "**",
        "`",
        "```",
        '"',
        "'",
        "{",
        "}",
        "[",
        "]",
        "\n",
        " ",
        "look",
        "1",
        "- ",
        ":",
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.lists(PIECES, max_size=12).map("".join), form=st.sampled_from(ActionFormat))
def test_what_enters_the_conversation_is_read_as_the_turn_was(text: str, form: ActionFormat):
    turn = read(text, form)
    assert parse(turn.text, form) == (turn.thought, turn.action, turn.malformed)
    assert text.strip().startswith(turn.text)


@pytest.mark.parametrize("piece", ["- ", "`*", "**", "Action: ", "Observation:\n", '{"a":', "["])
@pytest.mark.parametrize("form", [BARE, REACT])
def test_a_turn_that_only_repeats_itself_is_read(piece: str, form: ActionFormat):
    for text in (piece * 3000, "Action: " + piece * 3000):
        assert text.startswith(read(text, form).text)

"""Reading an action out of a policy's turn, in the forms that agents write."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from enum import Enum

from agentrm.core.state import Proposal, single


class ActionFormat(str, Enum):
    """How the policy writes a turn: `bare` is the action alone, `react` is "Thought: ...\\nAction: ...", `tools` are
    calls of the tools on offer, in the form of its chat template, after what it thinks.
    """

    bare = "bare"
    react = "react"
    tools = "tools"


# Around a label, as Markdown has it: headings, bullets, numbers and fences before it, emphasis or code on both sides.
_BEFORE = r"^[ \t]*(?:(?:\#{1,6}|[-+•>*]|\d+[.)])[ \t]+|(?:```|~~~)\w*[ \t]*)*"
_MARK = r"(?P<mark>\*{1,3}|__?|`)?"
_NUMBER = r"[ \t]*\#?\(?\d*\)?[ \t]*"
_CLOSED = r"(?(mark)(?P=mark)?)[ \t]*"
_COLON = rf"{_CLOSED}[:\uff1a][ \t]*{_CLOSED}"


def _line(word: str, end: str = _COLON, before: str = _BEFORE) -> re.Pattern[str]:
    return re.compile(f"{before}{_MARK}(?:{word}){_NUMBER}{end}", re.IGNORECASE | re.MULTILINE)


# The clearest first: "Action: look" as a line or a sentence, "Action - look", "**Action**" above it, then anywhere.
_ACTION = (
    _line("action", before=rf"(?:{_BEFORE}|(?<=[.!?] ))"),
    _line("action", rf"{_CLOSED}(?:[-\u2013\u2014=]>?|→)[ \t]+"),
    re.compile(
        r"^[ \t]*(?:\#{1,6}[ \t]+|(?=\*\*|__))(\*\*|__)?action[ \t]*(?(1)\1)[ \t]*$", re.IGNORECASE | re.MULTILINE
    ),
    re.compile(rf"(?<![^\W_]){_MARK}Action{_NUMBER}{_COLON}"),
)
_THOUGHT = re.compile(rf"(?:(?:```|~~~)\w*\n)?{_line('thoughts?').pattern}", re.IGNORECASE | re.MULTILINE)
_OBSERVATION = _line("observations?")
_NEXT_LINE = _line("(?:thought|action|observation)s?")
_NEXT_INSIDE = re.compile(rf"(?:^|(?<=\W)){_MARK}(?:Thought|Action|Observation){_NUMBER}{_COLON}")

_FENCE = re.compile(r"(```|~~~)(?:\w*[ \t]*\n)?(.*?)(?:\1|\Z)", re.DOTALL)
_OPEN_FENCE = re.compile(r"\s*(?:```|~~~)\w*$")
_BULLET = re.compile(r"(?:[-•>*][ \t]+)+(.+)")
_CODE = re.compile(r"(`+)([^`]+)\1[^`]*")
_EMPHASIS = re.compile(r"(\*{1,3}|__?)((?:(?!\1).)+)\1[.,;]?", re.DOTALL)
_QUOTED = re.compile(r"(?:\"([^\"]+)\"|“([^”]+)”|'([^']+)'|\u2018([^\u2019]+)\u2019|«([^»]+)»)[.,;]?")
_INNER = re.compile(r"(\*\*|`)(?=\S)([^*`]+)(?<=\S)\1")
_GENUINE = re.compile(r"[\[\]{}\"]")
_STRAY = re.compile(r"^[*`]+\s*|\s*(?:[*`]+|__)$")

_LAYERS = 8

_Found = tuple[str, str, str, tuple[str, str], int]
"""Thought, the label unless it is the plain one, action, what stood around it, and where the turn's own text ends."""


def read(text: str, form: ActionFormat, logprob: float = 0.0, tokens: int = 0) -> Proposal:
    """The proposal that a sampled turn makes.

    `bare`: the whole turn is the action. `react`: the action follows the first "Action:", however that is decorated. It
    is one line, or more where its arguments are a JSON object. What a turn goes on to imagine, from "Observation:" or
    another label behind its action, is cut from its text; fences, quotes and emphasis around the action stay in the
    text but do not reach the environment. A turn without an action in its form is malformed: its text is the action, so
    that the environment answers it. `tools`: the actions are calls, which are no text, so a turn of text is malformed.
    """
    text = single(text).strip()
    if form is ActionFormat.tools:
        return Proposal(text, text, "", logprob, tokens, malformed=True)
    parts = (_bare if form is ActionFormat.bare else _react)(text)
    if parts is None:
        imagined = _OBSERVATION.search(text)
        end = imagined.start() if imagined and imagined.start() else len(text)
        kept = text[:end].rstrip()
        return Proposal(kept, kept, "", logprob, tokens, malformed=True, removed=text[end:])
    thought, label, action, around, end = parts
    removed = "\n".join(piece for cut in (label, *around, text[end:]) if (piece := cut.strip()))
    return Proposal(text[:end].rstrip(), action, thought, logprob, tokens, removed=removed)


def parse(text: str, form: ActionFormat) -> tuple[str, str, bool]:
    """(thought, action, malformed) of a turn: see `read`."""
    turn = read(text, form)
    return turn.thought, turn.action, turn.malformed


def render(thought: str, action: str, form: ActionFormat) -> str:
    """The turn that `parse` reads back; `tools`: what is said beside the calls, which are no text."""
    if form is ActionFormat.tools:
        return thought
    if form is ActionFormat.bare:
        return action
    return f"Thought: {thought}\nAction: {action}" if thought else f"Action: {action}"


def _react(text: str) -> _Found | None:
    """Of the first stretch with an action: what the environment is imagined to say divides a turn into stretches."""
    starts = [0, *(match.start() for match in _OBSERVATION.finditer(text))]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        for label in (match for pattern in _ACTION for match in pattern.finditer(text, start, end)):
            stop = _stop(text, label.end(), end)
            action, around, _ = _undecorated(text[label.end() : stop])
            if action:
                thought = _OPEN_FENCE.sub("", text[: label.start()].strip())
                if opening := _THOUGHT.match(thought):
                    thought = thought[opening.end() :].strip()
                spelled = label[0].strip()
                return thought, "" if spelled == "Action:" else spelled, action, around, stop
    return None


def _bare(text: str) -> _Found | None:
    label = _ACTION[0].match(text)
    start = label.end() if label else 0
    stop = _stop(text, start, len(text))
    action, around, rest = _undecorated(text[start:stop])
    return ("", text[:start], action, around, stop) if action and not rest else None


def _stop(text: str, start: int, end: int) -> int:
    """Where another label follows: at the beginning of a line, or within one where no bracket or quote is open."""
    line = _NEXT_LINE.search(text, start, end)
    stop = line.start() if line else end
    for label in _NEXT_INSIDE.finditer(text, start, stop):
        before = text[start : label.start()]
        if all(before.count(left) == before.count(right) for left, right in ("[]", "{}")) and not before.count('"') % 2:
            return label.start()
    return stop


def _undecorated(text: str) -> tuple[str, tuple[str, str], str]:
    """The action that a text holds, what was taken off before and after it, and what else the text says."""
    text = text.strip()
    fence = _FENCE.match(text)
    inside = fence[2].strip() if fence else text
    written = _first_line(inside)
    rest = inside[len(written) :] + (text[fence.end() :] if fence else "")
    action = _peeled(written.strip())
    if not action:
        return "", ("", ""), rest.strip()
    decorated = fence[0] if fence else written
    before, _, after = decorated.partition(action)
    return action, (before, after), rest.strip()


def _first_line(text: str) -> str:
    """The first line, and those over which a JSON object goes on that begins in it."""
    line = text.partition("\n")[0]
    if "{" in line:
        with suppress(ValueError, RecursionError):
            _, end = json.JSONDecoder().raw_decode(text, line.index("{"))
            return text[: max(end, len(line))]
    return line


def _peeled(line: str) -> str:
    """A line without its decorations, of which few lie within each other."""
    for _ in range(_LAYERS):
        matches = (pattern.fullmatch(line) for pattern in (_BULLET, _CODE, _EMPHASIS, _QUOTED))
        match = next(filter(None, matches), None)
        if match and match.lastindex:
            bare = match[match.lastindex].strip()
        else:
            bare = _STRAY.sub("", line if _GENUINE.search(line) else _INNER.sub(r"\2", line))
        if bare == line:
            break
        line = bare
    return line

"""Story files in the Z-machine: one live story, what its object table says, and milestones of a walkthrough."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
from jericho import FrotzEnv, UnsupportedGameWarning
from jericho.defines import BINDINGS_DICT

Objects = np.ndarray[Any, np.dtype[np.uint16]]
# (object, column, value) of the object table.
Fact = tuple[int, int, int]

WON, LOST = "won", "lost"
_INPUT_BYTES = 197
_HEADER_BYTES = 64
_OTHER_SEED = 1
# They write files, leave the story, or use a memory of the interpreter that a saved state does not hold.
_OUTSIDE = frozenset(
    "quit q restart restore save script unscript noscript transcript undo record replay".split()  # noqa: SIM905
)
_CLAUSES = re.compile(r"[.,;!?\"]|\bthen\b|\band\b")
_WIN = re.compile(r"\*\*\*[^*]*(the end|you (have )?won)[^*]*\*\*\*", re.IGNORECASE)
_OVER = re.compile(r"would you like to restart", re.IGNORECASE)
# A flag that one action sets on so many things is the story's bookkeeping.
_MANY = 6
_BY_NAME = {binding["rom"].partition(".")[0]: binding for binding in BINDINGS_DICT.values()}
_BY_NAME |= {binding["name"]: binding for binding in BINDINGS_DICT.values()}
_NO_TITLE = re.compile(r"[.!?:\"]$")


@dataclass(frozen=True)
class Script:
    """What there is to do in a story: `actions` lead through all `milestones`, each of them facts made true at once.

    `ends` when the story itself ends with the last action; else it is solved with the last milestone. Where there are
    `subgoals`, texts to look for in what the story says, they stand in the place of milestones and actions.
    """

    path: Path
    seed: int
    goal: str
    actions: tuple[str, ...]
    milestones: tuple[tuple[Fact, ...], ...]
    ends: bool
    subgoals: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """All but the path, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "path"}

    @classmethod
    def of(cls, path: Path, fields: Mapping[str, Any]) -> Script:
        """The script whose `fields` were stored."""
        milestones = tuple(
            tuple((thing, column, value) for thing, column, value in milestone) for milestone in fields["milestones"]
        )
        seed, goal, actions = fields["seed"], fields["goal"], tuple(fields["actions"])
        return cls(path, seed, goal, actions, milestones, fields["ends"], tuple(fields.get("subgoals", ())))


class Story:
    """One live story; the same seed and actions give the same texts."""

    def __init__(self, path: Path, seed: int) -> None:
        with warnings.catch_warnings():
            # Score and moves are not known of every story; nothing here reads them.
            warnings.simplefilter("ignore", UnsupportedGameWarning)
            self._engine = FrotzEnv(str(path), seed=seed)
        self._ram = np.zeros(self._engine.frotz_lib.getRAMSize(), dtype=np.uint8)

    def reset(self) -> str:
        return _clean(self._engine.reset()[0])

    def step(self, action: str) -> tuple[str, str]:
        """The story's answer, and WON, LOST or "" for going on."""
        typed = re.sub(r"[^ -~]+", " ", action.encode("ascii", "replace").decode())
        typed = " ".join(typed.split())[:_INPUT_BYTES]
        if any(clause.split()[:1] and clause.split()[0] in _OUTSIDE for clause in _CLAUSES.split(typed.lower())):
            return "That is not a thing to do in this story.", ""
        text = _clean(self._engine.step(typed)[0])
        if self._engine.victory() or _WIN.search(text):
            return text, WON
        return text, LOST if self._engine.game_over() or _OVER.search(text) else ""

    def objects(self) -> Objects:
        """The object table: for each object its attributes, one column each, and last the object that holds it."""
        memory = self._memory()
        old = memory[0] <= 3
        attributes, entry, defaults = (4, 9, 62) if old else (6, 14, 126)
        start = _word(memory, 0x0A) + defaults
        # The properties of the first object follow the last object.
        end = _word(memory, start + entry - 2)
        table = memory[start : start + (end - start) // entry * entry].reshape(-1, entry)
        holder = table[:, attributes] if old else table[:, attributes].astype(np.uint16) << 8 | table[:, attributes + 1]
        flags = np.unpackbits(table[:, :attributes], axis=1)
        return np.column_stack((flags, holder)).astype(np.uint16)

    def state(self) -> Any:
        return self._engine.get_state()

    def restore(self, state: Any) -> None:
        self._engine.set_state(state)

    def content(self) -> tuple[bytes, int, tuple[int, ...]]:
        """All that decides what follows: memory without the header, program counter and random numbers."""
        library = self._engine.frotz_lib
        random = int(library.getRngA()), library.getRngInterval(), library.getRngCounter()
        return self._memory()[_HEADER_BYTES:].tobytes(), library.getPC(), random

    def close(self) -> None:
        self._engine.close()

    def _memory(self) -> Any:
        self._engine.frotz_lib.getRAM(np.ctypeslib.as_ctypes(self._ram))
        return self._ram


def holds(objects: Objects, milestone: Iterable[Fact]) -> bool:
    return all(objects[thing, column] == value for thing, column, value in milestone)


def observed(text: str, subgoals: tuple[str, ...], before: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which subgoals were observed so far; an observation counts for the first of those left that it holds, whatever
    stands between words, as in AgentBoard.
    """
    said = _plain(text)
    first = next(
        (number for number, subgoal in enumerate(subgoals) if not before[number] and _plain(subgoal) in said),
        len(before),
    )
    return tuple(known or number == first for number, known in enumerate(before))


def walk(path: Path, seed: int, actions: Iterable[str]) -> tuple[list[tuple[tuple[Fact, ...], str]], bool]:
    """Play actions until the story ends: for each the facts that it is the first to make true and the answer, and
    whether the story was won.

    Where an action moves something, its facts are who holds what now; else they are attributes (open, lit, locked).
    What changes while one waits, such as the whereabouts of others, is left out: it is not the action's doing. The
    action that wins has no facts: the victory stands for them.
    """
    story = Story(path, seed)
    story.reset()
    seen = _facts(story.objects())
    restless: set[tuple[int, int]] = set()
    effects = []
    won = False
    for action in actions:
        state, before = story.state(), story.objects()
        story.step("wait")
        restless.update((thing, column) for thing, column in np.argwhere(story.objects() != before).tolist())
        story.restore(state)
        text, end = story.step(action)
        won = end == WON
        now = _facts(story.objects())
        effects.append((set() if won else now - seen, text))
        seen |= now
        if end:
            break
    holder = before.shape[1] - 1
    story.close()
    steps = []
    for facts, text in effects:
        together = Counter(column for _, column, _ in facts)
        own = sorted(fact for fact in facts if fact[:2] not in restless and together[fact[1]] < _MANY)
        steps.append((tuple([fact for fact in own if fact[1] == holder] or own), text))
    return steps, won


def known_script(path: Path, max_steps: int) -> Script:
    """The script of a published story file: the first actions of the walkthrough that jericho has for it.

    The walkthrough is that of the same file, else of the game of that name; it may belong to another release, so that
    only what it really does in this file becomes a milestone. Raises ValueError for a file without one, or in which it
    does nothing.
    """
    binding = _binding(path)
    if binding is None:
        raise ValueError("no game that jericho knows")
    if "walkthrough" not in binding:
        raise ValueError("a game for which jericho has no walkthrough")
    seed = binding["seed"] or _OTHER_SEED
    actions = [action.lower() for action in binding["walkthrough"].split("/")[:max_steps]]
    steps, won = walk(path, seed, actions)
    useful = max((number for number, (facts, _) in enumerate(steps) if facts), default=-1) + 1
    if not won:
        steps = steps[:useful]
    milestones = tuple(facts for facts, _ in steps if facts)
    if not milestones:
        raise ValueError("a story in which the walkthrough does nothing")
    places = dict.fromkeys(title for facts, text in steps if facts and (title := _title(text)))
    goal = f"Explore the story, find things and use them. Places to reach: {', '.join(places)}."
    return Script(path, seed, goal, tuple(actions[: len(steps)]), milestones, won)


def known_seed(path: Path) -> int:
    """The seed with which jericho plays a story file."""
    return (_binding(path) or {}).get("seed") or _OTHER_SEED


def _binding(path: Path) -> Mapping[str, Any] | None:
    """What jericho knows of a story file: by its content, else by its name."""
    return BINDINGS_DICT.get(md5(path.read_bytes()).hexdigest()) or _BY_NAME.get(path.stem.lower())


def _facts(objects: Objects) -> set[Fact]:
    return {(thing, column, value) for thing, row in enumerate(objects.tolist()) for column, value in enumerate(row)}


def _title(text: str) -> str:
    """The name of the place that a text opens with, or ""."""
    first = text.split("\n", 1)[0].strip()
    return "" if _NO_TITLE.search(first) or len(first) > 40 else first


def _clean(text: str) -> str:
    """The story's words: without the prompt and the status line that stands on it, and without gaps."""
    lines = [line.strip() for line in text.split("\n") if not line.startswith(">")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _plain(text: str) -> str:
    """Letters and digits with the spaces between them."""
    letters = re.sub(r"[^a-zA-Z0-9\s]", "", re.sub(r"\[Your score .*?\]", "", text.replace("\n", " ")))
    return re.sub(r"\s+", " ", letters).strip()


def _word(memory: Any, address: int) -> int:
    return int(memory[address]) << 8 | int(memory[address + 1])

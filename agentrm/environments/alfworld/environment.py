"""ALFWorld: household tasks as text, on TextWorld's PDDL engine."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments import agentboard
from agentrm.environments.alfworld import DATA_VARIABLE, SOURCE, TASK_TYPES
from agentrm.environments.base import Turn
from agentrm.environments.official import OfficialData, OfficialEnvironment, Published
from agentrm.environments.rewriting import Rewriting
from agentrm.environments.support import digest, engine_import

if TYPE_CHECKING:
    from agentrm.environments.alfworld.engine import Engine
    from agentrm.environments.alfworld.games import Game

_NAMES = dict.fromkeys(("object", "receptacle"), r"(?:[a-z]+ ?[0-9]+|<[a-z]+>|\([a-z]+\))")
_USING = Rewriting(
    *[
        (f"{verb} {{object}} with {{receptacle}}", f"{verb} {{object}} using {{receptacle}}")
        for verb in ("clean", "cool", "heat")
    ],
    slots=_NAMES,
)
_MOVE = Rewriting(("go to {receptacle}", "move to {receptacle}"), slots=_NAMES)
_FROM = Rewriting(("take {object} from {receptacle}", "from {receptacle} take {object}"), slots=_NAMES)
_NOSPACE = Rewriting(("{name} {number}", "{name}{number}"), slots={"name": "[a-z]+", "number": "[0-9]+"})
_undo_speed_up: Callable[[], None] | None = None


def _published(data: Path, kind: str, split: str) -> Published:
    with engine_import("ALFWorld", "alfworld"):
        _import_alfworld()
        from agentrm.environments.alfworld import games as alfworld_games
    return alfworld_games.official_games(data, kind, split)


class ALFWorld(OfficialEnvironment):
    """The six task types of ALFWorld, and each once more as `..._small`.

    The six are the official games when the environment variable ALFWORLD_DATA names a directory with `json_2.1.1`
    (train, valid_seen and valid_unseen are train, valid and test; which games count is the project's own rule), else
    games generated in official-like rooms of 15 to 35 receptacles. The `_small` kinds are always generated: 4 to 7
    receptacles and up to 6 objects, for small policies. A generated game belongs to the split that its content hashes
    to, so that no two splits share one.

    Outcome is 1 when the goal holds. Progress is the share of milestones reached: an object of the goal's type held;
    one treated as asked (clean, hot, cool); the first of two placed; the goal. Where AGENTBOARD_DATA names AgentBoard's
    data beside the official games, it is in valid_unseen the share of AgentBoard's subgoals, which are looked for in
    what is observed, and the goal.
    """

    name: ClassVar[str] = "alfworld"
    engine: ClassVar[str] = "alfworld 0.4.2 on textworld 1.7.0"
    licence: ClassVar[str] = "MIT (its planner library fast-downward-textworld: GPL-3)"
    kinds: ClassVar[tuple[str, ...]] = TASK_TYPES + tuple(f"{kind}_small" for kind in TASK_TYPES)
    max_steps: ClassVar[int] = 30
    official: ClassVar[tuple[OfficialData, ...]] = (
        OfficialData(
            DATA_VARIABLE, lambda kind, _: kind in TASK_TYPES, _published, SOURCE, (agentboard.DATA_VARIABLE,)
        ),
    )
    snapshots: ClassVar[bool] = True
    max_live: ClassVar[int | None] = 64
    instruction: ClassVar[str] = (
        "You are in a room and have to fulfil a household task. Actions: go to <receptacle>, open <receptacle>, "
        "close <receptacle>, take <object> from <receptacle>, move <object> to <receptacle>, examine <something>, "
        "use <object>, heat <object> with <receptacle>, clean <object> with <receptacle>, cool <object> with "
        "<receptacle>, look, inventory. Name things with their numbers, for example: go to desk 1."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            "You are in the middle of a room. Looking quickly around you, you see a countertop 1, a diningtable 1, a "
            "fridge 1, a microwave 1, and a sinkbasin 1.\n\nYour task is to: heat some egg and put it in diningtable.",
            "First I have to find an egg. It may lie on the countertop.",
            "go to countertop 1",
        ),
        Turn(
            "You arrive at countertop 1. On the countertop 1, you see a spoon 1.",
            "There is no egg here. I will have to heat it anyway, so I look in the microwave next.",
            "go to microwave 1",
        ),
        Turn(
            "You arrive at microwave 1. The microwave 1 is closed.",
            "I cannot see into it while it is closed.",
            "open microwave 1",
        ),
        Turn(
            "You open the microwave 1. The microwave 1 is open. In it, you see a egg 1.",
            "Here is the egg. I take it.",
            "take egg 1 from microwave 1",
        ),
        Turn(
            "You pick up the egg 1 from the microwave 1.",
            "I hold the egg and stand at the microwave, so I can heat it now.",
            "heat egg 1 with microwave 1",
        ),
        Turn(
            "You heat the egg 1 using the microwave 1.",
            "The egg is hot. It belongs on the diningtable.",
            "go to diningtable 1",
        ),
        Turn(
            "You arrive at diningtable 1. On the diningtable 1, you see a knife 1.",
            "I am there. Putting the egg down fulfils the task.",
            "move egg 1 to diningtable 1",
        ),
    )
    perturbations: ClassVar[Mapping[str, tuple[Rewriting, ...]]] = {
        "using": (_USING,),
        "move": (_MOVE,),
        "from": (_FROM,),
        "nospace": (_NOSPACE,),
        "all": (_USING, _MOVE, _FROM, _NOSPACE),
    }

    def __init__(self) -> None:
        global _undo_speed_up
        with engine_import("ALFWorld", "alfworld"):
            _import_alfworld()
            from agentrm.environments.alfworld import engine as alfworld_engine
            from agentrm.environments.alfworld import games as alfworld_games
        if _undo_speed_up is None:
            _undo_speed_up = alfworld_engine.speed_up()
        self._games = alfworld_games
        self._engine: Engine = alfworld_engine.Engine()
        self._task: Task | None = None
        self._game: Game | None = None
        self._goal: alfworld_games.Goal | None = None
        self._subgoals: tuple[str, ...] = ()
        self._milestones: list[bool] = []
        self._won = False

    @classmethod
    def present_wording(cls, text: str) -> str:
        text = _PUT_ACTION.sub(r"move \1 to \2", text)
        return _PUT_OBSERVED.sub(r"\1 move the \2 to the \3", text)

    def reset(self, task: Task) -> Observation:
        self.check(task)
        entry = self.entry(task)
        self._game = self._games.read_official(entry.path) if entry else self._games.generated_game(task)
        self._task, self._goal = task, self._games.Goal.of(self._game.problem)
        self._subgoals = tuple(entry.value) if entry else ()
        self._milestones, self._won = [False] * len(self._subgoals), False
        state = self._engine.start(self._game)
        self._observe(state.won)
        # The first paragraph greets to TextWorld.
        return Observation(state.feedback.split("\n\n", 1)[1].strip())

    def step(self, action: str) -> Observation:
        state, _, won = self._engine.step(" ".join(action.split()))
        self._observe(won, state.feedback)
        return Observation(state.feedback.strip(), done=won)

    def grade(self) -> Grade:
        # The goal itself is one more than AgentBoard's subgoals.
        parts = len(self._milestones) + bool(self._subgoals)
        progress = 1.0 if self._won else sum(self._milestones) / parts
        return Grade(outcome=float(self._won), progress=progress, success=self._won)

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        assert self._game is not None
        for plan in self._plans():
            self.reset(self._task)
            for number, action in enumerate(plan):
                if self.step(action).done:
                    self.reset(self._task)
                    return list(plan[: number + 1])
        self.reset(self._task)
        return []

    def thought(self, plan: Sequence[str]) -> str:
        assert self._goal is not None
        return self._games.thought(plan, self._goal)

    def _plans(self) -> Iterator[Sequence[str]]:
        """The file's walkthrough, then ours: some were written for another version of the game."""
        assert self._game is not None
        yield self._game.walkthrough
        yield self._games.scripted_plan(self._game.problem, self._engine.names)

    def admissible_actions(self) -> list[str]:
        return list(self._engine.state.admissible_commands)

    def fingerprint(self) -> str:
        facts = sorted(str(fact) for fact in self._engine.state["_facts"])
        return digest(self._task, facts, self._milestones, self._won)

    def snapshot(self) -> Any:
        progress = self._subgoals, tuple(self._milestones), self._won
        return self._task, self._game, self._goal, self._engine.operators, progress

    def restore(self, state: Any) -> None:
        self._task, self._game, self._goal, operators, (self._subgoals, milestones, self._won) = state
        self._milestones = list(milestones)
        assert self._game is not None
        self._engine.restore(self._game, operators)

    def close(self) -> None:
        self._engine.close()

    def _observe(self, won: bool, observation: str = "") -> None:
        """Take the milestones that hold now into those reached."""
        assert self._goal is not None
        if self._subgoals:
            texts = observation, _MOVED.sub(r"You put the \1 in/on the \2", observation)
            matches = [any(re.search(subgoal, text) for text in texts) for subgoal in self._subgoals]
            self._milestones = [old or new for old, new in zip(self._milestones, matches, strict=True)]
            self._won = won
            return
        goal = self._goal
        facts = self._engine.facts(("objecttype", "receptacletype", "holds", "inreceptacle", *_STATES))
        targets = {fact[1] for fact in facts if fact[0] == "objecttype" and fact[2] == f"{goal.target}type"}
        homes = {fact[1] for fact in facts if fact[0] == "receptacletype" and fact[2] == f"{goal.destination}type"}
        now = [any(fact[0] == "holds" and fact[2] in targets for fact in facts)]
        if goal.treatment:
            now.append(any(fact[0] == goal.treatment and fact[1] in targets for fact in facts))
        if goal.count > 1:
            now.append(any(fact[0] == "inreceptacle" and fact[1] in targets and fact[2] in homes for fact in facts))
        now.append(won)
        reached = self._milestones or [False] * len(now)
        self._milestones = [won or old or new for old, new in zip(reached, now, strict=True)]
        self._won = won


_STATES = ("isclean", "ishot", "iscool")
_PUT_ACTION = re.compile(r"^put (.+?) (?:in/on|in|on) (.+?)$", re.MULTILINE)
_PUT_OBSERVED = re.compile(r"\b(You) put the (.+?) in/on the (.+?)(?=\.|$)")
# What the engine said when AgentBoard wrote its subgoals, and says now.
_MOVED = re.compile(r"You move the (.+?) to the (.+?)(?=\.|$)")


def _import_alfworld() -> None:
    """Import the package without its side effects: it sets the data variable and makes that directory."""
    before = os.environ.get(DATA_VARIABLE)
    os.environ[DATA_VARIABLE] = tempfile.gettempdir()
    try:
        import alfworld  # noqa: F401
    finally:
        del os.environ[DATA_VARIABLE]
        if before is not None:
            os.environ[DATA_VARIABLE] = before

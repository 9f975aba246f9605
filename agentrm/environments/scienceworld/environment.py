"""ScienceWorld: elementary science experiments as text; the engine is a Java program."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS, Grade, Observation, Task
from agentrm.environments import agentboard
from agentrm.environments.base import Turn
from agentrm.environments.official import OfficialData, OfficialEnvironment, Published
from agentrm.environments.rewriting import Rewriting
from agentrm.environments.scienceworld import board, thoughts
from agentrm.environments.support import digest, engine_import

# The engine's own train, dev and test variations of each task. Left out, for they draw anew at every load and so are
# no function of their task: grow-fruit, use-thermometer, power-component(-renewable-vs-nonrenewable-energy).
VARIATIONS = {
    "boil": (14, 7, 9),
    "change-the-state-of-matter-of": (14, 7, 9),
    "chemistry-mix": (16, 8, 8),
    "chemistry-mix-paint-secondary-color": (18, 9, 9),
    "chemistry-mix-paint-tertiary-color": (18, 9, 9),
    "find-animal": (150, 75, 75),
    "find-living-thing": (150, 75, 75),
    "find-non-living-thing": (150, 75, 75),
    "find-plant": (150, 75, 75),
    "freeze": (14, 7, 9),
    "grow-plant": (62, 31, 33),
    "identify-life-stages-1": (6, 3, 5),
    "identify-life-stages-2": (4, 2, 4),
    "inclined-plane-determine-angle": (84, 42, 42),
    "inclined-plane-friction-named-surfaces": (692, 346, 348),
    "inclined-plane-friction-unnamed-surfaces": (80, 40, 42),
    "lifespan-longest-lived": (62, 31, 32),
    "lifespan-longest-lived-then-shortest-lived": (62, 31, 32),
    "lifespan-shortest-lived": (62, 31, 32),
    "measure-melting-point-known-substance": (218, 109, 109),
    "measure-melting-point-unknown-substance": (150, 75, 75),
    "melt": (14, 7, 9),
    "mendelian-genetics-known-plant": (60, 30, 30),
    "mendelian-genetics-unknown-plant": (240, 120, 120),
    "test-conductivity": (450, 225, 225),
    "test-conductivity-of-unknown-substances": (300, 150, 150),
}
# The engine takes `go LOC` for `go to LOC`, too.
_PROCEED = Rewriting(("go", "proceed"), slots={}, ignore_case=True)
_FETCH = Rewriting(("pick up", "fetch"), slots={}, ignore_case=True)


def _published(folder: Path, kind: str, split: str) -> Published:
    return board.published_tasks(folder, {name: sum(counts) for name, counts in VARIATIONS.items()})


class ScienceWorld(OfficialEnvironment):
    """A kind is a task of ScienceWorld, an index one of its variations in the engine's own split (valid is dev).

    The kind `agentboard` are AgentBoard's 90 variations, where the environment variable AGENTBOARD_DATA names its data:
    with its goals and simplifications, its limit of 30 actions, and the share of its subgoals as outcome and progress.

    Of all others outcome is the engine's score, 0 where it is negative (a wrong focus fails and ends the episode);
    progress is the highest score so far. All objects of a process share one JVM, which takes about 450 MB and 1 MB more
    for each.
    """

    name: ClassVar[str] = "scienceworld"
    engine: ClassVar[str] = "scienceworld 1.2.3 (needs Java 17)"
    licence: ClassVar[str] = "Apache-2.0"
    kinds: ClassVar[tuple[str, ...]] = tuple(VARIATIONS)
    published_kinds: ClassVar[tuple[str, ...]] = (agentboard.KIND,)
    # The engine's own solutions have up to 178 actions.
    max_steps: ClassVar[int] = 200
    official: ClassVar[tuple[OfficialData, ...]] = (agentboard.official_tests(_published),)
    generated: ClassVar[bool] = False
    max_live: ClassVar[int | None] = 256
    instruction: ClassVar[str] = (
        "You are in a simulated world and have to fulfil a science task. Actions: open OBJ, close OBJ, activate OBJ, "
        "deactivate OBJ, connect OBJ to OBJ, disconnect OBJ, use OBJ on OBJ, look around, look at OBJ, look in OBJ, "
        "read OBJ, move OBJ to OBJ, pick up OBJ, put down OBJ, pour OBJ into OBJ, dunk OBJ into OBJ, mix OBJ, "
        "go to LOC, eat OBJ, flush OBJ, focus on OBJ, wait, wait1, task, inventory, teleport to LOC."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            "Your task is to find a(n) animal. First, focus on the thing. Then, move it to the green box in the "
            "kitchen.\nThis room is called the art studio. In it, you see: \n\tthe agent\n\ta substance called air\n"
            "\ta large cupboard. The large cupboard door is closed. \n"
            "\ta table. On the table is: a bowl (containing nothing).\n"
            "\ta wood cup (containing red paint)\n\ta wood cup (containing blue paint)\n"
            "\ta wood cup (containing yellow paint)\nYou also see:\n\tA door to the hallway (that is open)",
            "There is no animal in the art studio. Animals live outside.",
            "teleport to outside",
        ),
        Turn("You teleport to the outside.", "I have to see what is here.", "look around"),
        Turn(
            "This outside location is called the outside. Here you see: \n\tthe agent\n\ta substance called air\n"
            "\tan axe\n\ta blue jay egg\n\ta butterfly egg\n\ta dove egg\n\ta fire pit (containing nothing)\n"
            "\ta fountain (containing a substance called water)\n\tthe ground\n\ta substance called wood\n"
            "You also see:\n\tA door to the foundry (that is open)\n\tA door to the greenhouse (that is open)\n"
            "\tA door to the kitchen (that is open)",
            "The dove in its egg is an animal. The task wants me to focus on it before I move it.",
            "focus on dove egg",
        ),
        Turn("You focus on the dove egg.", "Now I carry it to the kitchen.", "pick up dove egg"),
        Turn(
            "You move the dove to the inventory.",
            "The door from the outside to the kitchen is open.",
            "go to kitchen",
        ),
        Turn(
            "You move to the kitchen.", "The green box is here; the animal goes into it.", "move dove egg to green box"
        ),
    )
    perturbations: ClassVar[Mapping[str, tuple[Rewriting, ...]]] = {
        "proceed": (_PROCEED,),
        "fetch": (_FETCH,),
        "all": (_PROCEED, _FETCH),
    }

    def __init__(self) -> None:
        with engine_import("ScienceWorld", "scienceworld"):
            from agentrm.environments.scienceworld.engine import Simulator
        if shutil.which("java") is None:
            raise UserError("ScienceWorld needs Java 17 on the PATH: `apt install openjdk-17-jre-headless` or its like")
        self._simulator = Simulator()
        self._task: Task | None = None
        self._board: board.BoardTask | None = None
        self._reached: tuple[bool, ...] = ()
        self._score = 0.0
        self._progress = 0.0

    @classmethod
    def generated_size(cls, kind: str, split: str) -> int:
        return VARIATIONS[kind][SPLITS.index(split)]

    @classmethod
    def step_limit(cls, kind: str) -> int:
        return agentboard.MAX_STEPS if kind == agentboard.KIND else cls.max_steps

    def reset(self, task: Task) -> Observation:
        self._load(task, with_gold_path=False)
        game = self._simulator.game
        if self._board is not None:
            seen = f"{game.freeActionLook()}\n{game.freeActionInventory()}"
            return Observation(f"Your task: {self._board.goal}\n{seen}".strip())
        return Observation(f"{game.getTaskDescription()}\n{game.freeActionLook()}".strip())

    def step(self, action: str) -> Observation:
        # A lone surrogate cannot be sent to the JVM.
        sendable = " ".join(action.encode(errors="replace").decode().split())
        if self._board is not None:
            return self._step_on_board(self._board, sendable)
        text, self._score, completed = self._simulator.step(sendable)
        self._progress = max(self._progress, self._score)
        return Observation(text.strip(), done=completed or self._score < 0)

    def _step_on_board(self, task: board.BoardTask, action: str) -> Observation:
        """A step as AgentBoard takes it: it ends with the last subgoal, not with what the engine thinks of it."""
        if action == board.CHECK:
            actions = ", ".join([*self._simulator.game.getPossibleActions(), board.CHECK])
            return Observation(f"Choose an action from these valid actions: {actions}")
        text, _, _ = self._simulator.step(action)
        self._reached = board.reached(task.subgoals, self._reached, text)
        return Observation(text.strip(), done=all(self._reached))

    def grade(self) -> Grade:
        if self._board is not None:
            share = sum(self._reached) / len(self._reached)
            return Grade(outcome=share, progress=share, success=share == 1)
        return Grade(outcome=max(self._score, 0.0), progress=self._progress, success=self._score >= 1)

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        task = self._task
        self._load(task, with_gold_path=True)
        gold_path = list(self._simulator.game.getGoldActionSequence())
        # The path is drawn with the load, and is right for what this task always loads or it is none.
        self.reset(task)
        for number, action in enumerate(gold_path):
            if self.step(action).done:
                success = self.grade().success
                self.reset(task)
                return gold_path[: number + 1] if success else []
        self.reset(task)
        return []

    def thought(self, plan: Sequence[str]) -> str:
        goal = self._board.goal if self._board else self._simulator.game.getTaskDescription()
        return thoughts.thought(plan, f"{goal}\n{self._simulator.game.freeActionLook()}")

    def admissible_actions(self) -> list[str]:
        return list(self._simulator.game.getValidActionObjectCombinations())

    def fingerprint(self) -> str:
        game = self._simulator.game
        seen = game.freeActionLook(), game.freeActionInventory(), game.getGoalProgressStr()
        hidden = game.getNumMoves(), self._simulator.random_state()
        return digest(self._task, seen, hidden, self._score, self._progress, self._reached)

    def close(self) -> None:
        self._simulator.close()

    def _load(self, task: Task, with_gold_path: bool) -> None:
        self.check(task)
        self._task, self._board, self._reached = None, self.entry(task), ()
        if self._board is not None:
            self._reached = (False,) * len(self._board.subgoals)
            names = self._board.task, self._board.variation
            self._simulator.load(*names, with_gold_path, board.SIMPLIFICATION)
        else:
            # Variations are numbered through, split after split.
            first = sum(self.generated_size(task.kind, split) for split in SPLITS[: SPLITS.index(task.split)])
            self._simulator.load(task.kind, first + task.index, with_gold_path)
        self._task, self._score, self._progress = task, 0.0, 0.0

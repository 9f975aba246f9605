"""ScienceWorld: elementary science experiments as text; the engine is a Java program that lives with its object."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from agentrm.environments.base import SPLITS, Environment, Grade, Observation, Task
from agentrm.environments.support import check_kind, digest, engine_import
from agentrm.errors import EnvironmentFailure, UserError

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
SIMPLIFICATION = "easy"
# A heap of 512 MB (by default it takes 3 GB), and one identity hash for all objects: the engine lists things in the
# order of hash sets, which is otherwise another one at every load.
JVM_OPTIONS = "-Xmx512m -XX:+UnlockExperimentalVMOptions -XX:hashCode=2"
JVM_EXIT_S = 5.0


class ScienceWorld(Environment):
    """A kind is a task of ScienceWorld, an index one of its variations in the engine's own split (valid is dev).

    Outcome is the engine's score, 0 where it is negative (a wrong focus fails and ends the episode); progress is the
    highest score so far. Every object owns one JVM of about 420 MB and loads all its tasks into it.
    """

    name: ClassVar[str] = "scienceworld"
    engine: ClassVar[str] = "scienceworld 1.2.3 (needs Java 17)"
    licence: ClassVar[str] = "Apache-2.0"
    kinds: ClassVar[tuple[str, ...]] = tuple(VARIATIONS)
    max_steps: ClassVar[int] = 100
    max_live: ClassVar[int] = 1
    instruction: ClassVar[str] = (
        "You are in a simulated world and have to fulfil a science task. Actions: open OBJ, close OBJ, activate OBJ, "
        "deactivate OBJ, connect OBJ to OBJ, disconnect OBJ, use OBJ on OBJ, look around, look at OBJ, look in OBJ, "
        "read OBJ, move OBJ to OBJ, pick up OBJ, put down OBJ, pour OBJ into OBJ, dunk OBJ into OBJ, mix OBJ, "
        "go to LOC, eat OBJ, flush OBJ, focus on OBJ, wait, wait1, task, inventory, teleport to LOC."
    )

    def __init__(self) -> None:
        with engine_import("ScienceWorld", "scienceworld"):
            from scienceworld import ScienceWorldEnv
        if shutil.which("java") is None:
            raise UserError("ScienceWorld needs Java 17 on the PATH: `apt install openjdk-17-jre-headless` or its like")
        with _jvm_options():
            self._engine: Any = ScienceWorldEnv()
        self._server = self._engine.server
        self._task: Task | None = None
        self._score = 0.0
        self._progress = 0.0

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        check_kind(cls.name, cls.kinds, kind, split)
        return VARIATIONS[kind][SPLITS.index(split)]

    def reset(self, task: Task) -> Observation:
        self._load(task, with_gold_path=False)
        return Observation(f"{self._server.getTaskDescription()}\n{self._server.freeActionLook()}".strip())

    def step(self, action: str) -> Observation:
        # A lone surrogate cannot be sent to the JVM.
        sendable = " ".join(action.encode(errors="replace").decode().split())
        text = self._server.step(sendable)
        self._score = float(self._server.getScore())
        self._progress = max(self._progress, self._score)
        return Observation(text.strip(), done=self._server.getCompleted() or self._score < 0)

    def grade(self) -> Grade:
        return Grade(outcome=max(self._score, 0.0), progress=self._progress, success=self._score >= 1)

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        task = self._task
        self._load(task, with_gold_path=True)
        gold_path = list(self._server.getGoldActionSequence())
        # The path is drawn with the load, and is right for what this task always loads or it is none.
        self.reset(task)
        for number, action in enumerate(gold_path):
            if self.step(action).done:
                success = self.grade().success
                self.reset(task)
                return gold_path[: number + 1] if success else []
        self.reset(task)
        return []

    def admissible_actions(self) -> list[str]:
        return list(self._server.getValidActionObjectCombinations())

    def fingerprint(self) -> str:
        server = self._server
        seen = server.freeActionLook(), server.freeActionInventory(), server.getGoalProgressStr()
        return digest(self._task, seen, server.getNumMoves(), self._score, self._progress)

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        process = engine._gateway.java_process
        with suppress(Exception):
            engine.close()
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(JVM_EXIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        engine._obj_tree_tempdir.cleanup()

    def _load(self, task: Task, with_gold_path: bool) -> None:
        self.check(task)
        self._task = None
        # Variations are numbered through, split after split.
        first = sum(self.size(task.kind, split) for split in SPLITS[: SPLITS.index(task.split)])
        self._server.load(task.kind, first + task.index, SIMPLIFICATION, with_gold_path)
        self._task, self._score, self._progress = task, 0.0, 0.0


@contextmanager
def _jvm_options() -> Iterator[None]:
    """Give our options to the JVM that starts inside the block."""
    before = os.environ.get("JAVA_TOOL_OPTIONS")
    os.environ["JAVA_TOOL_OPTIONS"] = f"{before or ''} {JVM_OPTIONS}".strip()
    try:
        yield
    except OSError as error:
        raise EnvironmentFailure(f"ScienceWorld's Java program could not start: {error}") from error
    finally:
        del os.environ["JAVA_TOOL_OPTIONS"]
        if before is not None:
            os.environ["JAVA_TOOL_OPTIONS"] = before

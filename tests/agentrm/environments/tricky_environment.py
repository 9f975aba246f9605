"""A small real environment (count to three) whose actions can also hang, crash, fail or leave a process behind."""

import os
import subprocess
import time
from typing import ClassVar

from agentrm.environments import Environment, Grade, Observation, Task

GOAL = 3


class Tricky(Environment):
    name: ClassVar[str] = "tricky"
    engine: ClassVar[str] = "none"
    licence: ClassVar[str] = "Apache-2.0"
    kinds: ClassVar[tuple[str, ...]] = ("count",)
    max_steps: ClassVar[int] = 10
    instruction: ClassVar[str] = "Count to three with: add."
    max_live: ClassVar[int] = 2

    def __init__(self) -> None:
        self.count = 0

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        return 100

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self.count = 0
        return Observation(f"task {task.index}: 0")

    def step(self, action: str) -> Observation:
        if action == "hang":
            time.sleep(1000)
        if action == "crash":
            os._exit(3)
        if action == "raise":
            raise RuntimeError("out of order")
        if action == "spawn":
            return Observation(str(subprocess.Popen(["sleep", "1000"]).pid))
        self.count += action == "add"
        return Observation(str(self.count), done=self.count == GOAL)

    def grade(self) -> Grade:
        return Grade(float(self.count == GOAL), self.count / GOAL, self.count == GOAL)

    def expert_actions(self) -> list[str]:
        self.count = 0
        return ["add"] * GOAL

    def admissible_actions(self) -> list[str]:
        return ["add"]

    def fingerprint(self) -> str:
        return str(self.count)

    def close(self) -> None:
        self.count = 0

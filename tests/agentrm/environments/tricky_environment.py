"""A small real environment (count to three) whose actions can also hang, crash, fail or leave things behind."""

import os
import subprocess
import tempfile
import threading
import time
from typing import ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.base import Environment

GOAL = 3


class Tricky(Environment):
    name: ClassVar[str] = "tricky"
    engine: ClassVar[str] = "none"
    licence: ClassVar[str] = "Apache-2.0"
    kinds: ClassVar[tuple[str, ...]] = ("count",)
    max_steps: ClassVar[int] = 10
    instruction: ClassVar[str] = "Count to three with: add."
    max_live: ClassVar[int | None] = 2

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
        if action == "leak":
            return Observation(leak())
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


class Once(Tricky):
    """A world that is there once: a task of it can neither be reset, nor played in a second engine, nor copied."""

    name: ClassVar[str] = "once"
    begun: ClassVar[set[Task]] = set()

    def reset(self, task: Task) -> Observation:
        if task in self.begun:
            raise RuntimeError("this world cannot be reset")
        self.begun.add(task)
        return super().reset(task)


class Costly(Tricky):
    """Takes 20 ms to start, 5 ms a step and 100 kB a session; of every second task the oracle knows nothing."""

    name: ClassVar[str] = "costly"

    def reset(self, task: Task) -> Observation:
        time.sleep(0.02)
        self.memory = bytes(100_000)
        self.known = task.index % 2 == 0
        return super().reset(task)

    def step(self, action: str) -> Observation:
        time.sleep(0.005)
        return super().step(action)

    def expert_actions(self) -> list[str]:
        return super().expert_actions() if self.known else []


def leak() -> str:
    """Leave a thread, a file, and a process that no longer belongs to this one; returns "process file"."""
    threading.Thread(target=time.sleep, args=(1000,)).start()
    handle, path = tempfile.mkstemp()
    os.close(handle)
    shell = subprocess.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True)
    return f"{shell.stdout.strip()} {path}"

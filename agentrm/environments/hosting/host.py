"""Environments behind a deadline: child processes that are killed and replaced when a call hangs or crashes.

Every call is a pure function of a task and its actions, so a replaced process loses nothing: the next call replays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any

from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.hosting.process import START_DEADLINE_S, Answer, Call, EnvironmentProcess, value_of
from agentrm.environments.hosting.sessions import describe_request


class EnvironmentHost:
    """Runs environments in a child process for asyncio callers; nothing here blocks the event loop.

    It serves one call at a time. A call that takes more than `deadline_s` (waiting for other calls and the start of an
    engine do not count) or whose process dies raises EnvironmentFailure; a new process serves the other calls.
    UserErrors of a child are raised here. Close with `aclose`.
    """

    def __init__(self, deadline_s: float, max_sessions: int) -> None:
        self._worker = _Worker(deadline_s, max_sessions)

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """The observation after `actions`; () is the first one."""
        return await self._call("observe", task, actions)

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        """The hidden truth of the state after `actions`."""
        return await self._call("grade", task, actions)

    async def expert_actions(self, task: Task) -> list[str]:
        """The oracle's actions from the first observation to success, or []."""
        return await self._call("expert_actions", task)

    async def expert_thoughts(self, task: Task, actions: tuple[str, ...]) -> list[str]:
        """What the oracle thinks before each of its `actions`; "" where it says nothing."""
        return await self._call("expert_thoughts", task, actions)

    async def answer(self, calls: Sequence[Call]) -> list[Answer]:
        """Many calls at once, (method, task, *arguments), each with an answer of its own: for callers behind a network.

        They are served in order; the answers come together.
        """
        return await self._worker.submit(self._worker.answer, calls)

    async def counters(self) -> dict[str, int]:
        """The live process's counters (see `SessionPool`), and `kills`: processes that had to be replaced."""
        return await self._worker.submit(self._worker.counters)

    async def aclose(self) -> None:
        """End the process and its thread; calls in flight are finished first."""
        await self._worker.aclose()

    async def _call(self, *call: Any) -> Any:
        (answer,) = await self.answer([call])
        return value_of(answer)


class _Worker:
    """One child process and the one thread that talks to it, so that calls queue in order."""

    def __init__(self, deadline_s: float, max_sessions: int) -> None:
        self._deadline_s = deadline_s
        self._max_sessions = max_sessions
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="environment-host")
        self._process: EnvironmentProcess | None = None
        self._opened: set[str] = set()
        self._kills = 0
        self._closed = False

    async def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._closed:
            raise EnvironmentFailure("the environment host is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()

    # --- below here everything runs in the thread

    def answer(self, calls: Sequence[Call]) -> list[Answer]:
        """Serve calls one after the other; one that fails costs the others nothing but the time."""
        answers: list[Answer] = []
        while len(answers) < len(calls):
            try:
                self._serve(calls[len(answers) :], answers)
            except UserError as error:
                answers.append((UserError, str(error)))
            except EnvironmentFailure as error:
                self._kills += self._process is None or not self._process.alive
                _, task, *arguments = calls[len(answers)]
                text = f"{error}: {describe_request(task, *(arguments or [()]))}"
                answers.append((EnvironmentFailure, text))
        return answers

    def counters(self) -> dict[str, int]:
        counts = {"kills": self._kills}
        if self._process is not None and self._process.alive:
            self._process.send([("counters",)])
            counts |= value_of(self._process.receive(self._deadline_s))
        return counts

    def _serve(self, calls: Sequence[Call], answers: list[Answer]) -> None:
        """Append the answers to the calls that are for the first one's environment, until one ends the process.

        They go out in one message and come back one by one: the process need not wait for this thread.
        """
        environment = calls[0][1].environment
        process = self._ready(environment)
        batch = list(takewhile(lambda call: call[1].environment == environment, calls))
        process.send(batch)
        for _ in batch:
            answers.append(process.receive(self._deadline_s))

    def _ready(self, environment: str) -> EnvironmentProcess:
        """A live process with an engine of this environment."""
        if self._process is None or not self._process.alive:
            self._close()
            self._process = EnvironmentProcess(self._max_sessions)
        if environment not in self._opened:
            self._process.send([("open", environment)])
            value_of(self._process.receive(START_DEADLINE_S))
            self._opened.add(environment)
        return self._process

    def _close(self) -> None:
        process, self._process = self._process, None
        self._opened.clear()
        if process is not None:
            process.close()

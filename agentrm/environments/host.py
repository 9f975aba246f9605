"""Environments behind a deadline: child processes that are killed and replaced when a call hangs or crashes.

Every call is a pure function of a task and its actions, so a replaced process loses nothing: the next call replays.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from agentrm.environments.base import Grade, Observation, Task
from agentrm.environments.sessions import SessionPool, describe_request
from agentrm.errors import EnvironmentFailure, UserError

START_DEADLINE_S = 120.0
CLOSE_DEADLINE_S = 10.0
_PR_SET_PDEATHSIG = 1
# The child gets the parent's import path before it imports anything of ours.
_CHILD = (
    "import sys, json; sys.path = json.loads(sys.argv[1]); "
    "from agentrm.environments.host import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)


class EnvironmentHost:
    """Runs environments in `workers` child processes for asyncio callers; nothing here blocks the event loop.

    A task always goes to the same worker, which serves one call at a time. A call that takes more than `deadline_s`
    (waiting for other calls and the start of an engine do not count) or whose process dies raises EnvironmentFailure;
    a new process serves the other calls. UserErrors of a child are raised here. Close with `aclose`.
    """

    def __init__(self, workers: int, deadline_s: float, max_sessions: int) -> None:
        self._workers = [_Worker(deadline_s, max_sessions) for _ in range(workers)]

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """The observation after `actions`; () is the first one."""
        return await self._call(task, "observe", actions)

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        """The hidden truth of the state after `actions`."""
        return await self._call(task, "grade", actions)

    async def expert_actions(self, task: Task) -> list[str]:
        """The oracle's actions from the first observation to success, or []."""
        return await self._call(task, "expert_actions")

    async def counters(self) -> dict[str, int]:
        """Sums over the live processes of SessionPool's counters, and `kills`: processes that had to be replaced."""
        counts = await asyncio.gather(*(worker.submit(worker.counters) for worker in self._workers))
        return {key: sum(count.get(key, 0) for count in counts) for key in sorted(set().union(*counts))}

    async def aclose(self) -> None:
        """End all processes and threads; calls in flight are finished first."""
        await asyncio.gather(*(worker.aclose() for worker in self._workers))

    async def _call(self, task: Task, method: str, *arguments: Any) -> Any:
        worker = self._workers[zlib.crc32(task.id.encode()) % len(self._workers)]
        return await worker.submit(worker.call, task, method, *arguments)


class _Worker:
    """One child process and the one thread that talks to it, so that calls queue in order."""

    def __init__(self, deadline_s: float, max_sessions: int) -> None:
        self._deadline_s = deadline_s
        self._max_sessions = max_sessions
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="environment-host")
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._opened: set[str] = set()
        self._kills = 0
        self._closed = False

    async def submit(self, function: Any, *arguments: Any) -> Any:
        if self._closed:
            raise EnvironmentFailure("the environment host is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()

    # --- below here everything runs in the thread

    def call(self, task: Task, method: str, *arguments: Any) -> Any:
        where = describe_request(task, *arguments) if arguments else describe_request(task, ())
        if self._process is None or self._process.poll() is not None:
            self._start(where)
        if task.environment not in self._opened:
            self._request(START_DEADLINE_S, where, "open", task.environment)
            self._opened.add(task.environment)
        return self._request(self._deadline_s, where, method, task, *arguments)

    def counters(self) -> dict[str, int]:
        running = self._process is not None and self._process.poll() is None
        return {"kills": self._kills} | (self._request(self._deadline_s, "counters", "counters") if running else {})

    def _start(self, where: str) -> None:
        self._kill()
        self._connection, far_end = Pipe()
        command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(far_end.fileno()), str(self._max_sessions)]
        # A session of its own: its whole group can be killed, and the terminal's Ctrl-C is for the parent alone.
        self._process = subprocess.Popen(
            command,
            pass_fds=[far_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        far_end.close()
        self._receive(START_DEADLINE_S, where)

    def _request(self, deadline_s: float, where: str, *request: Any) -> Any:
        assert self._connection is not None
        try:
            self._connection.send(request)
        except OSError as error:
            self._fail(f"environment process died: {where}", error)
        error_class, value = self._receive(deadline_s, where)
        if error_class is not None:
            raise error_class(value)
        return value

    def _receive(self, deadline_s: float, where: str) -> Any:
        assert self._connection is not None
        try:
            if self._connection.poll(deadline_s):
                return self._connection.recv()
        except (EOFError, OSError) as error:
            self._fail(f"environment process died: {where}", error)
        self._fail(f"environment timed out after {deadline_s:g} s: {where}", None)

    def _fail(self, text: str, cause: BaseException | None) -> Any:
        self._kills += 1
        self._kill()
        raise EnvironmentFailure(text) from cause

    def _kill(self) -> None:
        """End the process and all that it started (before it is reaped: its group id is its own until then)."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._opened.clear()

    def _close(self) -> None:
        if self._process is not None and self._connection is not None:
            with suppress(OSError, EnvironmentFailure, EOFError):
                self._connection.send(None)
                if self._connection.poll(CLOSE_DEADLINE_S):
                    self._connection.recv()
        self._kill()


def serve(descriptor: int, max_sessions: int) -> None:
    """The child's loop: requests come from the connection as (method, *arguments); None or its end is the end."""
    _die_with_parent()
    connection = Connection(descriptor)
    pool = SessionPool(max_sessions)
    connection.send(None)
    with suppress(EOFError, OSError):
        while (request := connection.recv()) is not None:
            method, *arguments = request
            connection.send(_answer(pool, method, arguments))
    pool.close()
    with suppress(OSError):
        connection.send(None)


def _answer(pool: SessionPool, method: str, arguments: list[Any]) -> tuple[type[Exception] | None, Any]:
    """(None, value), or the class of an error and its text."""
    try:
        return None, pool.counters if method == "counters" else getattr(pool, method)(*arguments)
    except UserError as error:
        return UserError, str(error)
    except Exception as error:
        text = str(error) if isinstance(error, EnvironmentFailure) else f"{method} failed with {error!r}"
        return EnvironmentFailure, text


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the end of the connection tells it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

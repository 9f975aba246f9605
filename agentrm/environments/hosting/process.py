"""Child processes that may die: what is sent is answered with a deadline, and nothing outlives them.

`EnvironmentProcess` runs environments; its calls go out in lists, and answers come back one by one.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

import psutil

from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.environments.hosting.sessions import SessionPool

Call = tuple[Any, ...]
"""(method of SessionPool, *arguments)."""
Answer = tuple[type[Exception] | None, Any]
"""(None, value), or the class of an error and its text."""

START_DEADLINE_S = 120.0
CLOSE_DEADLINE_S = 10.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# The child gets the parent's import path before it imports anything of ours.
_CHILD = (
    "import sys, json; sys.path = json.loads(sys.argv[1]); "
    "from agentrm.environments.hosting.process import start; start(*sys.argv[2:])"
)


class ChildProcess:
    """A function in a process of its own, with a temporary directory of its own; ready when made.

    `target` is "module:function", which gets the child's end of the connection and `arguments`; it is ready when it
    has sent something, and ends when it receives None. Raises EnvironmentFailure, after the end of the process, when
    it dies or exceeds a deadline.
    """

    def __init__(self, target: str, *arguments: str) -> None:
        self._connection, far_end = Pipe()
        self._temporary = tempfile.TemporaryDirectory(prefix="agentrm-environments-", ignore_cleanup_errors=True)
        # A session of its own: its whole group can be killed, and the terminal's Ctrl-C is for the parent alone.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(far_end.fileno()), target, *arguments],
            pass_fds=[far_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"TMPDIR": self._temporary.name},
        )
        far_end.close()
        self.receive(START_DEADLINE_S)

    @property
    def alive(self) -> bool:
        """Whether it can take calls. Only for when no answer is due: what can be read then is its end."""
        return not self._connection.closed and not self._connection.poll(0)

    def send(self, message: Any) -> None:
        """Hand over what the child is to do; its answers come by `receive`, in order."""
        try:
            self._connection.send(message)
        except OSError as error:
            self._fail("environment process died", error)

    def receive(self, deadline_s: float) -> Any:
        """The next answer, if it comes within the deadline."""
        try:
            if self._connection.poll(deadline_s):
                return self._connection.recv()
        except (EOFError, OSError) as error:
            self._fail("environment process died", error)
        return self._fail(f"environment timed out after {deadline_s:g} s", TimeoutError())

    def close(self) -> None:
        """Let the child finish by itself, then end what is left. May be called twice."""
        with suppress(OSError, EOFError):
            self._connection.send(None)
            if self._connection.poll(CLOSE_DEADLINE_S):
                self._connection.recv()
        self.kill()

    def kill(self) -> None:
        """End the process and all that it started, and remove its files. May be called twice."""
        if self._process.returncode is not None:
            return
        # It is reaped last: until then its number, which is its group's too, is nobody else's.
        with suppress(psutil.NoSuchProcess):
            for descendant in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    descendant.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        self._temporary.cleanup()

    def _fail(self, text: str, cause: BaseException) -> Any:
        self.kill()
        raise EnvironmentFailure(text) from cause


class EnvironmentProcess(ChildProcess):
    """A SessionPool in a process of its own: `send` takes a list of calls, each of which has its answer."""

    def __init__(self, max_sessions: int) -> None:
        super().__init__("agentrm.environments.hosting.process:serve", str(max_sessions))


def value_of(answer: Answer) -> Any:
    """The value of an answer. Raises the error where it is one."""
    error_class, value = answer
    if error_class is not None:
        raise error_class(value)
    return value


def start(descriptor: str, target: str, *arguments: str) -> None:
    """The child's beginning: see `ChildProcess`."""
    _tie_to_parent()
    pkgutil.resolve_name(target)(Connection(int(descriptor)), *arguments)


def serve(connection: Connection, max_sessions: str) -> None:
    """The child's loop: the connection brings lists of calls, each answered by itself; None or its end is the end."""
    pool = SessionPool(int(max_sessions))

    def perform(method: str, *arguments: Any) -> Any:
        return pool.counters if method == "counters" else getattr(pool, method)(*arguments)

    connection.send((None, None))
    with suppress(EOFError, OSError):
        while (calls := connection.recv()) is not None:
            for call in calls:
                connection.send(_answer(perform, call))
                if call[0] == "open":
                    # What an engine imports lives as long as this process, so the collector need not walk it.
                    gc.freeze()
    pool.close()
    with suppress(OSError):
        connection.send((None, None))


def _answer(perform: Callable[..., Any], call: Call) -> Answer:
    try:
        return None, perform(*call)
    except UserError as error:
        return UserError, str(error)
    except Exception as error:
        text = str(error) if isinstance(error, EnvironmentFailure) else f"{call[0]} failed with {error!r}"
        return EnvironmentFailure, text


def _tie_to_parent() -> None:
    """On Linux: die with the parent, and stay the parent of what the environments start and leave to itself.

    Elsewhere the end of the connection tells that the parent is gone.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

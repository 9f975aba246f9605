"""ScienceWorld's engine: many independent simulators in one Java program, of which a process has one at most."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Any

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JError
from scienceworld.constants import BASEPATH, JAR_PATH

from agentrm.core.errors import EnvironmentFailure

# Room for 256 simulators of about 1 MB (the default takes up to a quarter of the machine), a collector without threads
# of its own, and one identity hash for all objects: the engine lists things in the order of hash sets, which is
# otherwise another one at every load.
OPTIONS = ("-Xmx512m", "-XX:-UsePerfData", "-XX:+UseSerialGC", "-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2")
# The state of the engine's random numbers is a private field of Java's own class.
ACCESS = ("--add-opens", "java.base/java.util=ALL-UNNAMED")
# What java.util.Random.setSeed combines with its argument to get the state.
SCRAMBLER = 0x5DEECE66D
EXIT_S = 5.0
SIMPLIFICATION = "easy"


class Simulator:
    """One live game. Simulators share nothing that a game can see: each has its own random state and object numbers.

    Raises EnvironmentFailure when the Java program cannot start, and py4j's errors when it dies.
    """

    def __init__(self) -> None:
        self._java = JavaProgram.running()
        self._game: Any = self._java.enter(self)
        self.globals: tuple[int, int] | None = None

    @property
    def game(self) -> Any:
        """The engine's PythonInterface, ready for a call."""
        self._java.switch(self)
        return self._game

    def load(self, name: str, variation: int, with_gold_path: bool, simplification: str = SIMPLIFICATION) -> None:
        """Start a variation of a task. Drawing its gold path too takes seconds."""
        game = self.game
        game.load(name, variation, simplification, with_gold_path)
        # The engine keeps both of the game before, and an action that takes no time would show them.
        getattr(game, "score_$eq")(0.0)
        getattr(game, "isComplete_$eq")(False)
        # The table of all tasks' variations, nine tenths of a game's memory; every load makes it anew.
        getattr(game, "taskMaker_$eq")(None)

    def step(self, action: str) -> tuple[str, float, bool]:
        """Execute an action: the engine's answer, the score in [0, 1] (negative: failed), and whether it is the end."""
        game = self.game
        text = game.step(action)
        return text, float(game.getScore()), bool(game.getCompleted())

    def random_state(self) -> int:
        """The state of this simulator's random numbers."""
        self._java.switch(self)
        return self._java.globals()[0]

    def close(self) -> None:
        """Give the game's memory back; the last simulator ends the Java program."""
        if self._game is not None:
            self._java.leave(self, self._game)
            self._game = None


class JavaProgram:
    """The running Java program and the two variables that its simulators would share: random state and next number."""

    _running: JavaProgram | None = None

    def __init__(self) -> None:
        try:
            port, self.process = launch_gateway(
                classpath=JAR_PATH,
                cwd=BASEPATH,
                javaopts=[*OPTIONS, *ACCESS],
                die_on_exit=True,
                return_proc=True,
            )
        except Exception as error:  # py4j raises what it meets first: of the process, its pipe or its port
            raise EnvironmentFailure(f"ScienceWorld's Java program could not start: {error!r}") from error
        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_field=True))
        jvm = self._gateway.jvm
        self._random = getattr(getattr(jvm.scala.util, "Random$"), "MODULE$").self()
        self._random_state = jvm.java.lang.Class.forName("java.util.Random").getDeclaredField("seed")
        self._random_state.setAccessible(True)
        self._numbers = getattr(getattr(jvm.util, "UniqueIdentifier$"), "MODULE$")
        self._simulators: set[Simulator] = set()
        self._current: Simulator | None = None

    @classmethod
    def running(cls) -> JavaProgram:
        """This process's program, started if there is none or it died."""
        if cls._running is None or not cls._running.answers():
            cls._running = cls()
        return cls._running

    def answers(self) -> bool:
        """Whether the program still takes calls."""
        try:
            self.globals()
        except Py4JError:
            return False
        return True

    def enter(self, simulator: Simulator) -> Any:
        """A new game."""
        self._simulators.add(simulator)
        return self._gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface()

    def switch(self, simulator: Simulator) -> None:
        """Put the simulator's values into the shared variables, unless they are there."""
        if self._current is simulator:
            return
        if self._current is not None:
            self._current.globals = self.globals()
        if simulator.globals is not None:
            state, number = simulator.globals
            self._random.setSeed(state ^ SCRAMBLER)
            getattr(self._numbers, "count_$eq")(number)
        self._current = simulator

    def globals(self) -> tuple[int, int]:
        """What the shared variables hold: the random state and the number of the last object."""
        return self._random_state.get(self._random), self._numbers.count()

    def leave(self, simulator: Simulator, game: Any) -> None:
        """Drop a game, and end the program with the last one."""
        self._simulators.discard(simulator)
        if self._current is simulator:
            self._current = None
        if self._simulators:
            with suppress(Exception):
                self._gateway.detach(game)
            return
        if JavaProgram._running is self:
            JavaProgram._running = None
        with suppress(Exception):
            self._gateway.shutdown()
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

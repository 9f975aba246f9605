"""Gymnasium environments that are played in text.

class Guess(GymnasiumEnvironment):
    name = "guess"
    levels = {"easy": {"id": "my_package.guess:Guess-v0"}}
    max_steps = 20
    instruction = "Find the secret number. Actions: guess <number>."
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from agentrm.core.errors import UserError
from agentrm.environments.adapters.adapted import AdaptedEnvironment, Answer
from agentrm.environments.support import engine_import


class GymnasiumEnvironment(AdaptedEnvironment):
    """`levels` holds, by kind, the arguments of `gymnasium.make`: the id, and what else the environment takes.

    Observations that are no text need an own `text`, actions that are no text an own `parse`. Set `snapshots` where
    the engine can be deep-copied. Limits on steps are taken off, for they belong to the caller.
    """

    engine: ClassVar[str] = "gymnasium"
    licence: ClassVar[str] = "that of the environment"

    def __init__(self) -> None:
        super().__init__()
        with engine_import("Gymnasium", "gymnasium"):
            import gymnasium
        self._gymnasium = gymnasium
        self.game: Any = None
        self._level: Mapping[str, Any] = {}
        self._open(next(iter(self.levels.values())))

    def text(self, observation: Any) -> str:
        """What the agent reads of an observation; `self.game` is the Gymnasium environment."""
        if not isinstance(observation, str):
            raise UserError(f"{self.name} observes {type(observation).__name__}, not text: give its class a `text`")
        return observation

    def parse(self, action: str) -> Any:
        """The engine's action for any text at all, or None for a text that means none."""
        return action if self.game.action_space.contains(action) else None

    def snapshot(self) -> Any:
        if not self.snapshots:
            return super().snapshot()
        state = self._task, self._level, list(self._history), self._total, self._progress
        return state, copy.deepcopy(self.game)

    def restore(self, state: Any) -> None:
        (self._task, self._level, history, self._total, self._progress), game = state
        self._history, self.game = list(history), copy.deepcopy(game)

    def close(self) -> None:
        game, self.game, self._level = self.game, None, {}
        if game is not None:
            game.close()

    def _start(self, level: Mapping[str, Any], seed: int) -> Answer:
        self._open(level)
        observation, _ = self.game.reset(seed=seed)
        return Answer(self.text(observation))

    def _execute(self, action: str) -> Answer:
        move = self.parse(action)
        if move is None:
            return Answer("That is not an action.")
        observation, reward, terminated, truncated, _ = self.game.step(move)
        return Answer(self.text(observation), float(reward), bool(terminated or truncated))

    def _open(self, level: Mapping[str, Any]) -> None:
        """Have the level's game live. Raises UserError when Gymnasium does not know it."""
        if level == self._level:
            return
        self.close()
        try:
            self.game = self._gymnasium.make(**level, disable_env_checker=True, max_episode_steps=-1)
        except (ImportError, self._gymnasium.error.Error) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.name} cannot be made by Gymnasium as {dict(level)}: {reason}") from error
        self._level = level

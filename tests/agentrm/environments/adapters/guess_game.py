"""A Gymnasium environment in text, as another package would register it on import."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
from gymnasium.spaces import Text

CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789 ")


class Guess(gymnasium.Env):
    """Find a number that the seed draws; each guess on the right side of the last bound earns a little."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.observation_space = Text(200, charset=CHARACTERS)
        self.action_space = Text(20, charset=CHARACTERS)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[str, dict]:
        super().reset(seed=seed)
        self.secret = int(self.np_random.integers(1, self.highest + 1))
        self.guesses = 0
        return f"i think of a number from 1 to {self.highest}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        verb, _, number = action.partition(" ")
        if verb != "guess" or not number.isdigit():
            return "say guess and a number", 0.0, False, False, {}
        self.guesses += 1
        if int(number) == self.secret:
            return "right", 1.0, True, False, {}
        return "more" if int(number) < self.secret else "less", 0.0, self.guesses == 8, False, {}


gymnasium.register("Guess-v0", entry_point=Guess, max_episode_steps=2)

"""A binary tree of depth 3 as an environment, and policies for it: small enough to solve by hand.

An action is `left` or `right`; the outcome is the leaf's number (0 to 7, left first) over 7.
"""

from __future__ import annotations

from random import Random

from agentrm.core.actions import ActionFormat
from agentrm.core.state import Proposal, State
from agentrm.core.task import Grade, Observation, Task
from agentrm.search.episode import Opening

DEPTH = 3
BARE = Opening(instructions=False, action_format=ActionFormat.bare)
TASK = Task("babyai", "goto_obj", "train", 0)


def leaf_value(actions: tuple[str, ...]) -> float:
    bits = "".join("1" if action == "right" else "0" for action in actions)
    return int(bits, 2) / (2**DEPTH - 1)


class ToySessions:
    """The environment as a pure function; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        self.asked.append(actions)
        return Observation(f"after {len(actions)}", done=len(actions) == DEPTH)

    async def fingerprint(self, task: Task, actions: tuple[str, ...]) -> str:
        return "|".join(actions)


class ToyGrader:
    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        value = leaf_value(actions)
        return Grade(value, value, value == 1)


class EvenPolicy:
    """Draws `left` and `right` with equal chance, by seed and state."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.sampled = 0

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        self.sampled += n
        draw = Random(f"{self.seed}|{seed}|{state.actions}")
        actions = ["left"] * n if greedy else [draw.choice(["left", "right"]) for _ in range(n)]
        return [Proposal(action, action, logprob=-0.693, tokens=1) for action in actions]


class ScriptedPolicy:
    """Proposes from a table: (actions so far) -> actions, one after another; refuses to be asked for more."""

    def __init__(self, table: dict[tuple[str, ...], list[str]]) -> None:
        self.table = {key: list(actions) for key, actions in table.items()}

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        row = self.table[state.actions]
        taken, row[:n] = row[:n], []
        assert len(taken) == n, f"asked for more than the script holds at {state.actions}"
        return [Proposal(action, action, logprob=-0.693, tokens=1) for action in taken]


class TrueValue:
    """A reward model that knows the best leaf below a state."""

    async def score(self, states: list[State]) -> list[float]:
        return [leaf_value((*state.actions, *["right"] * (DEPTH - len(state.actions)))) for state in states]

"""The protocols that every search is written over. None of them can reach the true reward; `Grader` alone can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agentrm.core.state import Proposal, State
from agentrm.core.task import Grade, Observation, Task


class Policy(Protocol):
    """Proposes turns. Raises ContextOverflow when the state does not fit the model's context."""

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """`n` sampled turns in the order of sampling, duplicates kept (`greedy`: temperature 0).

        The same state and `seed` give the same proposals; callers that sample a state again pass another seed.
        """
        ...


class CostedValue(float):
    """A state's value that knows what it cost: `tokens` were read, `cached` of which were not computed again, and
    `left_out` not read, since the state exceeded the context.
    """

    tokens: int
    cached: int
    left_out: int

    def __new__(cls, value: float, tokens: int = 0, cached: int = 0, left_out: int = 0) -> CostedValue:
        """A value is free and of a whole state unless it is told otherwise."""
        scored = super().__new__(cls, value)
        scored.tokens, scored.cached, scored.left_out = tokens, cached, left_out
        return scored


class RewardModel(Protocol):
    """Scores states: raw values, one per state, independent of the batch."""

    async def score(self, states: Sequence[State]) -> list[float]:
        """One value per state, higher is better; -inf for a state that exceeds the model's context. A model that reads
        tokens gives `CostedValue` ones.
        """
        ...


class Sessions(Protocol):
    """Environments as functions of (task, actions); a host keeps live sessions so that nothing is stepped twice.

    Raises EnvironmentFailure when the engine crashed or passed its deadline.
    """

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """What the agent reads after `actions`; `()` gives the first observation."""
        ...


class BranchingSessions(Sessions, Protocol):
    """Sessions that can tell whether two sequences of actions lead to the same state; for tree building."""

    async def fingerprint(self, task: Task, actions: tuple[str, ...]) -> str:
        """A digest of the engine's state after `actions`; equal states have equal ones."""
        ...


class Grader(Protocol):
    """The hidden truth: only tree building and evaluation hold one; no policy, scorer or test-time search does."""

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        """Outcome and progress of the state after `actions`."""
        ...

"""What every test-time search returns, and the counting of what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentrm.environments.base import Observation, Task
from agentrm.models.base import Policy, RewardModel, Sessions
from agentrm.models.state import Proposal, State


@dataclass(slots=True)
class Cost:
    """Tokens the policy sampled, states the reward model scored, environment steps asked for, and wall seconds."""

    policy_tokens: int = 0
    scored_states: int = 0
    environment_steps: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.policy_tokens + other.policy_tokens,
            self.scored_states + other.scored_states,
            self.environment_steps + other.environment_steps,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The final state that a search chose, its score (None without a reward model), and its cost.

    `finished` is false when a step limit or the model's context cut the episode.
    """

    state: State
    score: float | None
    cost: Cost

    @property
    def finished(self) -> bool:
        """Whether the environment ended the episode."""
        return self.state.done


@dataclass(slots=True)
class Metered:
    """A policy, sessions and a reward model that count into one `cost`; its clock runs from its making."""

    policy: Policy
    sessions: Sessions
    reward_model: RewardModel | None = None
    cost: Cost = field(default_factory=Cost)
    _started: float = field(default_factory=time.monotonic)

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """See `Policy`. A greedy turn is computed once, however often it is asked for."""
        proposals = await self.policy.propose(state, n, seed=seed, greedy=greedy)
        self.cost.policy_tokens += sum(proposal.tokens for proposal in (proposals[:1] if greedy else proposals))
        return proposals

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """See `Sessions`."""
        self.cost.environment_steps += bool(actions)
        return await self.sessions.observe(task, actions)

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `RewardModel`."""
        assert self.reward_model is not None
        self.cost.scored_states += len(states)
        return await self.reward_model.score(states)

    def result(self, state: State, score: float | None) -> Result:
        """Close the books."""
        self.cost.seconds = time.monotonic() - self._started
        return Result(state, score, self.cost)

"""What simulations ask of the policy, the environment and the graders, paid for once per task."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from math import isfinite
from typing import Any

from agentrm.core.protocols import BranchingSessions, Grader, Policy, RewardModel
from agentrm.core.state import Proposal, State
from agentrm.core.task import Grade, Observation, Task
from agentrm.core.tree import Tree

Actions = tuple[str, ...]

# A node's samplings and the trees of a task draw apart: depth + _DRAW * draws + _TREE * number, rollouts -1 and below.
_DRAW, _TREE = 1_000, 1_000_000
_ROLLOUT = -1


class Calls:
    """The simulation cache of one task: its trees share it one after another, and it ends with them.

    All that is kept is a function of the state: the turn with which a rollout continues it, the environment's answer,
    its fingerprint, and the grade. Tokens and steps are counted in the tree that pays for them.
    """

    def __init__(
        self, task: Task, policy: Policy, sessions: BranchingSessions, grader: Grader, reward_model: RewardModel | None
    ) -> None:
        self._task = task
        self._sessions = sessions
        self._policy = policy
        self._grader = grader
        self._reward_model = reward_model
        self._known: dict[tuple[str, Actions], Any] = {}
        self._asking: defaultdict[tuple[str, Actions], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def sample(self, tree: Tree, index: int, n: int) -> list[Proposal]:
        """`n` turns at a node, drawn anew each time. Raises ModelError."""
        node = tree.nodes[index]
        seed = node.depth + _DRAW * node.draws + _TREE * tree.number
        proposals = await self._policy.propose(tree.state(index), n, seed=seed)
        node.draws += 1
        tree.policy_tokens += sum(proposal.tokens for proposal in proposals)
        return proposals

    async def continuation(self, tree: Tree, state: State, number: int) -> Proposal:
        """The turn with which rollout `number` goes on in a state. Raises ModelError."""

        async def draw() -> Proposal:
            (proposal,) = await self._policy.propose(state, 1, seed=_ROLLOUT - number)
            tree.policy_tokens += proposal.tokens
            return proposal

        return await self._once(f"continuation {number}", state.actions, draw)

    async def observe(self, tree: Tree, actions: Actions) -> Observation:
        """The environment's answer to the last of `actions`."""

        async def step() -> Observation:
            tree.environment_steps += 1
            return await self._sessions.observe(self._task, actions)

        return await self._once("observation", actions, step)

    async def fingerprint(self, actions: Actions) -> str:
        """The digest of the engine's state after `actions`."""
        return await self._once("fingerprint", actions, lambda: self._sessions.fingerprint(self._task, actions))

    async def grade(self, actions: Actions) -> Grade:
        """The true reward after `actions`."""
        return await self._once("grade", actions, lambda: self._grader.grade(self._task, actions))

    async def estimate(self, state: State) -> float | None:
        """The reward model's value, within [0, 1] as outcomes are; None for a state that exceeds its context."""
        assert self._reward_model is not None
        (score,) = await self._reward_model.score([state])
        return min(max(score, 0.0), 1.0) if isfinite(score) else None

    async def _once(self, kind: str, actions: Actions, call: Callable[[], Awaitable[Any]]) -> Any:
        key = kind, actions
        if key not in self._known:
            async with self._asking[key]:
                if key not in self._known:
                    self._known[key] = await call()
        return self._known[key]

"""One policy for several searches of one task: a turn that two of them ask for is sampled once."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from agentrm.core.protocols import Policy
from agentrm.core.state import Proposal, State


class SharedPolicy:
    """A `Policy` that remembers its answers, so it is made for one task and dropped with it.

    Every search still counts all tokens that it asked for. Searches that ask at the same time wait for the same answer.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._answers: dict[tuple[Hashable, ...], asyncio.Task[list[Proposal]]] = {}

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """See `Policy`."""
        key = state.task, tuple(step.proposal for step in state.steps), n, seed, greedy
        if key not in self._answers:
            self._answers[key] = asyncio.create_task(self._policy.propose(state, n, seed=seed, greedy=greedy))
        # A search that its budget of seconds cuts must not take the answer from the others.
        return await asyncio.shield(self._answers[key])

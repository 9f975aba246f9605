"""Monte Carlo tree search that builds the reward model's training data (paper, section 3).

Select by UCB; expand k sampled actions; merge equal ones; roll every new state out to the end and keep its nodes in the
tree; the outcome is backed up as visits and value. Several simulations of one tree run at a time, kept apart by virtual
loss. Budgets of iterations, tokens and steps start no more simulations and let those under way end, for cutting them
would favour short episodes; the budget of seconds cuts what still runs.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from math import inf

from agentrm.config.schema import Trees
from agentrm.core.errors import AgentRMError, ContextOverflow, EnvironmentFailure, ModelError, UserError
from agentrm.core.protocols import BranchingSessions, Grader, Policy, RewardModel
from agentrm.core.task import Task
from agentrm.core.tree import Tree
from agentrm.search.calls import Calls
from agentrm.search.episode import Opening, begin, step_limit
from agentrm.search.expansion import expand
from agentrm.search.selection import select
from agentrm.search.simulation import finish, roll_out

_FAILURES = 5


class TreeSearch:
    """Grows the trees of tasks: the only search that holds a `Grader`, for reward models learn from its trees."""

    def __init__(
        self,
        policy: Policy,
        sessions: BranchingSessions,
        grader: Grader,
        search: Trees,
        opening: Opening,
        reward_model: RewardModel | None = None,
    ) -> None:
        if search.rollout_steps is not None and reward_model is None:
            raise UserError("trees.rollout_steps needs a reward model for what follows: set trees.bootstrap")
        self._policy = policy
        self._sessions = sessions
        self._grader = grader
        self._search = search
        self._opening = opening
        self._reward_model = reward_model

    def calls(self, task: Task) -> Calls:
        """A simulation cache for the trees of one task."""
        return Calls(task, self._policy, self._sessions, self._grader, self._reward_model)

    async def grow(self, task: Task, number: int = 0, calls: Calls | None = None) -> Tree:
        """The finished tree `number` of a task; `calls` are those of the task's earlier trees.

        Where no rollout came to its end, `failure` says why. Raises EnvironmentFailure when the task cannot even start,
        ModelError when models break off more simulations than come to their end, and ModelUnavailable.
        """
        calls = calls or self.calls(task)
        started = time.monotonic()
        root = await begin(task, self._sessions, self._opening)
        tree = Tree.of(root, number)
        limit = step_limit(task, self._search.max_depth)
        running: dict[asyncio.Task, int] = {}
        try:
            while not tree.ended_by:
                tree.seconds = time.monotonic() - started
                while (
                    not self._spent(tree)
                    and len(running) < self._search.simulations
                    and (leaf := select(tree, self._search)) is not None
                ):
                    tree.iterations += 1
                    tree.occupy(leaf)
                    running[asyncio.create_task(self._simulate(tree, leaf, limit, calls))] = leaf
                if tree.environment_errors > _FAILURES:
                    tree.ended_by = "environment"
                elif tree.failure and tree.engine_errors > _FAILURES + tree.nodes[0].visits:
                    raise tree.failure
                elif not running:
                    tree.ended_by = "exhausted" if tree.nodes[0].closed else self._spent(tree) or "exhausted"
                elif (left := self._seconds_left(tree)) <= 0:
                    tree.ended_by = "seconds"
                else:
                    done, _ = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                    for simulation in done:
                        tree.release(running.pop(simulation))
                        simulation.result()
        finally:
            for simulation, leaf in running.items():
                simulation.cancel()
                tree.release(leaf)
            await asyncio.gather(*running, return_exceptions=True)
        tree.seconds = time.monotonic() - started
        if not tree.grown and tree.failure is None:
            tree.failure = self._too_short(tree)
        return tree

    async def _simulate(self, tree: Tree, leaf: int, limit: int, calls: Calls) -> None:
        """Expand one node by k sampled actions and roll every new child out. Raises ModelUnavailable."""
        node = tree.nodes[leaf]
        try:
            if node.terminal or node.depth >= limit:
                await finish(tree, leaf, self._search, calls)
                return
            try:
                fresh = await expand(tree, leaf, self._search, calls)
            except ContextOverflow:
                if not leaf:
                    raise
                await finish(tree, leaf, self._search, calls)
                return
            rollouts = itertools.product(fresh, range(self._search.rollouts))
            await asyncio.gather(*(roll_out(tree, child, limit, self._search, calls, n) for child, n in rollouts))
            node.expanded = True
            tree.close_if_done(leaf)
        except (EnvironmentFailure, ModelError) as error:
            tree.break_off(leaf, error)

    def _spent(self, tree: Tree) -> str:
        """The first budget that a tree has used up, or ""."""
        used = (
            ("iterations", tree.iterations, self._search.iterations),
            ("tokens", tree.policy_tokens, self._search.max_tokens),
            ("steps", tree.environment_steps, self._search.max_steps),
            ("seconds", tree.seconds, self._search.max_seconds),
        )
        return next((name for name, amount, budget in used if budget is not None and amount >= budget), "")

    def _too_short(self, tree: Tree) -> AgentRMError:
        """Why there is no rollout although nothing failed."""
        if tree.nodes[0].terminal:
            return EnvironmentFailure(f"task {tree.task.id} has ended before its first action")
        return UserError(
            f"no rollout of task {tree.task.id} came to its end in {tree.seconds:.0f} s: raise trees.max_seconds"
        )

    def _seconds_left(self, tree: Tree) -> float:
        return inf if self._search.max_seconds is None else self._search.max_seconds - tree.seconds

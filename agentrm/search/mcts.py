"""Monte Carlo tree search that builds the reward model's training data (paper.md section 2, step 2).

Select by UCB; expand k sampled actions; merge equal ones; roll every new state out to the end and keep its nodes in the
tree; the outcome is backed up as visits and value. Several simulations of one tree run at a time, kept apart by virtual
loss.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from agentrm.config.schema import Search
from agentrm.environments.base import Task
from agentrm.errors import ContextOverflow, EnvironmentFailure
from agentrm.models.base import Grader, Policy, Sessions
from agentrm.models.state import Proposal
from agentrm.search.episode import Opening, begin, step_limit
from agentrm.search.tree import Node, Tree, normalise

_FAILURES = 5


class TreeSearch:
    """Grows the tree of one task: the only search that holds a `Grader`, for reward models learn from its trees."""

    def __init__(self, policy: Policy, sessions: Sessions, grader: Grader, search: Search, opening: Opening) -> None:
        self._policy = policy
        self._sessions = sessions
        self._grader = grader
        self._search = search
        self._opening = opening

    async def grow(self, task: Task) -> Tree:
        """The finished tree. Raises EnvironmentFailure when the task cannot even start."""
        started = time.monotonic()
        root = await begin(task, self._sessions, self._opening)
        tree = Tree(task, [Node(parent=-1, depth=0, observation=root.opening, terminal=root.done)])
        limit = step_limit(task, self._search.max_depth)
        running: set[asyncio.Task] = set()
        try:
            while not tree.ended_by:
                while (
                    tree.iterations < self._search.iterations
                    and len(running) < self._search.simulations
                    and (leaf := self._select(tree)) is not None
                ):
                    tree.iterations += 1
                    running.add(asyncio.create_task(self._simulate(tree, leaf, limit)))
                if running:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for each in done:
                        each.result()
                if tree.environment_errors > _FAILURES:
                    tree.ended_by = "environment"
                elif not running and tree.nodes[0].closed:
                    tree.ended_by = "exhausted"
                elif not running and tree.iterations >= self._search.iterations:
                    tree.ended_by = "iterations"
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        tree.seconds = time.monotonic() - started
        return tree

    def _select(self, tree: Tree) -> int | None:
        """Walk down by UCB to a node that is not expanded yet; None while all open ones are busy."""
        index = 0
        while tree.nodes[index].expanded:
            free = [i for i in tree.nodes[index].children if not self._blocked(tree, i)]
            if not free:
                return None
            index = max(free, key=lambda i: tree.ucb(i, self._search.exploration, self._search.virtual_loss))
        if self._blocked(tree, index):
            return None
        tree.nodes[index].busy = True
        for i in tree.path(index):
            tree.nodes[i].virtual += 1
        return index

    def _blocked(self, tree: Tree, index: int) -> bool:
        """Whether nothing below the node can be simulated now."""
        node = tree.nodes[index]
        return node.closed or node.busy or (node.expanded and all(self._blocked(tree, i) for i in node.children))

    async def _simulate(self, tree: Tree, leaf: int, limit: int) -> None:
        """Expand one node by k sampled actions and roll every new child out to the end."""
        try:
            if tree.nodes[leaf].terminal or tree.nodes[leaf].depth >= limit:
                await self._finish(tree, leaf)
                return
            state = tree.state(leaf)
            try:
                proposals = await self._policy.propose(state, self._search.expansions, seed=tree.nodes[leaf].depth)
            except ContextOverflow:
                await self._finish(tree, leaf)
                return
            tree.policy_tokens += sum(proposal.tokens for proposal in proposals)
            new = merge(tree, leaf, proposals)
            observations = await asyncio.gather(
                *(self._sessions.observe(tree.task, (*state.actions, proposal.action)) for proposal, _ in new)
            )
            fresh = []
            for (proposal, count), observation in zip(new, observations, strict=True):
                fresh.append(tree.add(leaf, proposal, observation))
                tree.nodes[fresh[-1]].merged = count
            tree.nodes[leaf].expanded = True
            await asyncio.gather(*(self._roll_out(tree, child, limit) for child in fresh))
            if all(tree.nodes[i].closed for i in tree.nodes[leaf].children):
                tree.close(leaf)
        except EnvironmentFailure:
            tree.environment_errors += 1
            tree.close(leaf)
        finally:
            tree.nodes[leaf].busy = False
            for i in tree.path(leaf):
                tree.nodes[i].virtual -= 1

    async def _roll_out(self, tree: Tree, index: int, limit: int) -> None:
        """Sample one action at a time below a new node until the episode ends; every state on the way is a node."""
        tree.nodes[index].busy = True
        passed = [index]
        try:
            while not tree.nodes[index].terminal and tree.nodes[index].depth < limit:
                state = tree.state(index)
                try:
                    (proposal,) = await self._policy.propose(state, 1, seed=-1)
                except ContextOverflow:
                    break
                tree.policy_tokens += proposal.tokens
                observation = await self._sessions.observe(tree.task, (*state.actions, proposal.action))
                index = tree.add(index, proposal, observation)
                tree.nodes[index].busy = True
                passed.append(index)
            await self._finish(tree, index)
        except EnvironmentFailure:
            tree.environment_errors += 1
            tree.close(index)
        finally:
            for i in passed:
                tree.nodes[i].busy = False

    async def _finish(self, tree: Tree, index: int) -> None:
        """Grade the end of an episode, back its outcome up, and close the node: nothing new can come of it."""
        node = tree.nodes[index]
        grade = await self._grader.grade(tree.task, tree.state(index).actions)
        node.outcome, node.progress = grade.outcome, grade.progress
        tree.back_up(index, grade.outcome)
        tree.close(index)


def merge(tree: Tree, index: int, proposals: Sequence[Proposal]) -> list[tuple[Proposal, int]]:
    """Distinct new proposals below a node with the number of samples each stands for; known children are counted up."""
    new: dict[str, tuple[Proposal, int]] = {}
    for proposal in proposals:
        known = tree.child(index, proposal.action)
        if known is not None:
            tree.nodes[known].merged += 1
            continue
        key = normalise(proposal.action)
        first, count = new.get(key, (proposal, 0))
        new[key] = first, count + 1
    return list(new.values())

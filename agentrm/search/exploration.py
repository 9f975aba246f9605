"""A test-time search under way: the tree that it has explored, what it has spent, and what it may still spend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from math import inf
from typing import Any, TypeVar

from agentrm.config.schema import Aggregate, Evaluate
from agentrm.core.errors import ContextOverflow, InputRefused
from agentrm.core.protocols import CostedValue, Policy, RewardModel, Sessions
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.core.tree import Tree, normalise
from agentrm.search.aggregation import aggregate, clipped
from agentrm.search.episode import Opening, begin, step_limit
from agentrm.search.result import COMPLETE, GATE, Candidate, Cost, Result, Round

T = TypeVar("T")
Watch = Callable[[Round], None]
"""Told of every round that is over."""


class Exploration:
    """What a search asks its policy, environment and reward model for, by nodes of `tree`, in rounds.

    Nothing is executed or scored twice. Each round is dealt out in the order of asking, so that what a budget of steps
    or scored states cuts does not depend on timing; it never goes beyond them. Tokens are counted when a round is over,
    so the last one may go past their budget. Once a budget or the gate has ended the search (`ended_by`), every further
    round is empty. `values` ranks nodes: the aggregate of the raw scores on the way to them.
    """

    def __init__(
        self,
        root: State,
        policy: Policy,
        sessions: Sessions,
        reward_model: RewardModel | None,
        settings: Evaluate,
        watch: Watch | None,
        started: float,
    ) -> None:
        self.tree = Tree.of(root)
        self.settings = settings
        self.cost = Cost()
        self.values: dict[int, float] = {}
        self.ended_by = ""
        self._policy = policy
        self._sessions = sessions
        self._reward_model = reward_model
        self._watch = watch
        self._limit = step_limit(root.task, settings.max_depth)
        self._observed: dict[tuple[str, ...], Observation] = {}
        self._greedy: dict[int, int] = {}
        self._started = started

    @classmethod
    async def begin(
        cls,
        task: Task,
        policy: Policy,
        sessions: Sessions,
        reward_model: RewardModel | None,
        settings: Evaluate,
        opening: Opening,
        watch: Watch | None = None,
    ) -> Exploration:
        """At the task's first state. Raises EnvironmentFailure, as every round does, which raises ModelError too."""
        started = time.monotonic()
        root = await begin(task, sessions, opening)
        return cls(root, policy, sessions, reward_model, settings, watch, started)

    @property
    def limited(self) -> bool:
        """Whether a budget may end the search early."""
        settings = self.settings
        limits = settings.max_tokens, settings.max_steps, settings.max_scores, settings.max_seconds
        return any(limit is not None for limit in limits)

    def is_open(self, index: int) -> bool:
        """Whether an episode goes on at a node: neither the environment nor the step limit has ended it."""
        node = self.tree.nodes[index]
        return not node.terminal and node.depth < self._limit

    async def expand(self, nodes: Sequence[int], n: int) -> list[int]:
        """The children by `n` sampled turns at each node, equal actions merged; none where `_propose` has none."""
        turns = await self._distinct(nodes, n)
        children = await self._execute(turns, lambda index, proposal: self.tree.child(index, proposal.action))
        return [child for child in children if child is not None]

    async def propose(self, nodes: Sequence[int], n: int) -> list[int]:
        """The same without executing anything: turns that nobody has answered. Their values are those of actions, and
        `execute` makes states of them. Only nodes without children are asked.
        """
        turns = await self._distinct(nodes, n)
        children = [self.tree.add(parent, proposal, None) for parent, proposal, _ in turns]
        for child, (_, _, count) in zip(children, turns, strict=True):
            self.tree.nodes[child].merged = count
        return children

    async def execute(self, nodes: Sequence[int]) -> list[int]:
        """Those of the nodes that are states now; the turns beyond the budget of steps stay without an answer."""
        taken = {index: self.tree.actions(index) for index in nodes if not self.tree.nodes[index].answered}
        await self._answer(list(taken.values()))
        for index, actions in taken.items():
            if actions in self._observed:
                self.tree.answer(index, self._observed[actions])
        self._stop_at_gate(list(taken))
        return [index for index in nodes if self.tree.nodes[index].answered]

    async def continued(self, lanes: Sequence[tuple[int, int]], *, greedy: bool = False) -> list[int | None]:
        """One turn at each (node, seed): the child, or None where `_propose` has none or a budget is spent.

        Only turns that read the same are merged: lanes are samples of whole episodes. A greedy turn is asked for once.
        """
        asked = [lane for lane in lanes if not (greedy and lane[0] in self._greedy)]
        proposals = await self._propose([(index, 1, seed) for index, seed in asked], greedy)
        taken = [(lane, proposed[0]) for lane, proposed in zip(asked, proposals, strict=True) if proposed]
        children = await self._execute([(lane[0], proposal, 1) for lane, proposal in taken], self._same_turn)
        by_lane = {lane: child for (lane, _), child in zip(taken, children, strict=True) if child is not None}
        if greedy:
            self._greedy |= {index: child for (index, _), child in by_lane.items()}
            return [self._greedy.get(index) for index, _ in lanes]
        return [by_lane.get(lane) for lane in lanes]

    async def score(self, nodes: Sequence[int]) -> list[int]:
        """Those of the nodes that have a value now; in the order given."""
        fresh = [index for index in dict.fromkeys(nodes) if index not in self.values]
        if fresh:
            await self._estimate([i for index in fresh for i in self._counted(index)])
        for index in fresh:
            scores = [self.tree.nodes[i].estimate for i in self._counted(index)]
            known = [score for score in scores if score is not None]
            if len(known) == len(scores):
                self.values[index] = value = aggregate(known, self.settings.aggregate)
                self.tree.back_up(index, clipped(value), 1.0)
        self._stop_at_gate(nodes)
        return [index for index in nodes if index in self.values]

    def ranked(self, nodes: Sequence[int]) -> list[int]:
        """Highest value first, equal ones in their order, those without a value last."""
        return sorted(nodes, key=lambda index: -self.values.get(index, -inf))

    def best(self, nodes: Sequence[int]) -> int:
        """The node to choose among some: the highest value; without values one whose episode ended.

        Where the gate ended the search, the best episode that passes it.
        """
        if self.ended_by == GATE and self.settings.gate is not None:
            nodes = [index for index in self.values if self._passes(index, self.settings.gate)]
        if not any(index in self.values for index in nodes):
            return max(nodes, key=lambda index: self.tree.nodes[index].terminal)
        return self.ranked(nodes)[0]

    def report(self, candidates: Sequence[int], kept: Sequence[int]) -> None:
        """Tell whoever watches that a round is over."""
        if self._watch:
            ranked = [self._candidate(index, index in kept) for index in self.ranked(candidates)]
            stay = [index for index in dict.fromkeys(kept) if index not in candidates]
            self._watch(Round(ranked, stay, replace(self.cost)))

    def _candidate(self, index: int, kept: bool) -> Candidate:
        node, value = self.tree.nodes[index], self.values.get(index)
        return Candidate(index, node.parent, value, node.action, node.observation, node.terminal, kept)

    def result(self, index: int) -> Result:
        """Close the books."""
        self.cost.seconds = time.monotonic() - self._started
        tree, cost = self.tree, self.cost
        tree.ended_by = self.ended_by or COMPLETE
        tree.policy_tokens, tree.environment_steps = cost.policy_tokens, cost.environment_steps
        tree.seconds = cost.seconds
        return Result(tree.state(index), self.values.get(index), cost, tree, tree.ended_by)

    async def _distinct(self, nodes: Sequence[int], n: int) -> list[tuple[int, Proposal, int]]:
        """(node, turn, samples of it) for `n` sampled turns at each node, equal actions merged."""
        proposals = await self._propose([(index, n, self.tree.nodes[index].depth) for index in nodes], greedy=False)
        turns = []
        for index, sampled in zip(nodes, proposals, strict=True):
            distinct: dict[str, list[Proposal]] = {}
            for proposal in sampled:
                distinct.setdefault(normalise(proposal.action), []).append(proposal)
            turns += [(index, equal[0], len(equal)) for equal in distinct.values()]
        return turns

    async def _propose(self, requests: Sequence[tuple[int, int, int]], greedy: bool) -> list[list[Proposal]]:
        """The turns for each (node, n, seed); none where the context is full or the policy refuses the state."""

        async def ask(index: int, n: int, seed: int) -> list[Proposal]:
            try:
                return await self._policy.propose(self.tree.state(index), n, seed=seed, greedy=greedy)
            except ContextOverflow:
                return []
            except InputRefused as error:
                self.tree.count(error)
                return []

        if not self._may("tokens", self.cost.policy_tokens, self.settings.max_tokens):
            return [[] for _ in requests]
        proposals = [answer or [] for answer in await self._together([ask(*request) for request in requests])]
        self.cost.policy_tokens += sum(proposal.tokens for answer in proposals for proposal in answer)
        return proposals

    async def _execute(
        self, turns: Sequence[tuple[int, Proposal, int]], known: Callable[[int, Proposal], int | None]
    ) -> list[int | None]:
        """The child that each (parent, turn, samples of it) leads to; None for those beyond the budget of steps."""
        taken = [(*self.tree.actions(parent), proposal.action) for parent, proposal, _ in turns]
        await self._answer(
            [
                actions
                for (parent, proposal, _), actions in zip(turns, taken, strict=True)
                if known(parent, proposal) is None
            ]
        )
        children: list[int | None] = []
        for (parent, proposal, count), actions in zip(turns, taken, strict=True):
            child = known(parent, proposal)
            if child is not None:
                self.tree.nodes[child].merged += count
            elif actions in self._observed:
                child = self.tree.add(parent, proposal, self._observed[actions])
                self.tree.nodes[child].merged = count
            children.append(child)
        return children

    async def _answer(self, taken: Sequence[tuple[str, ...]]) -> None:
        """Observe what follows sequences of actions, in their order, as far as the budget of steps goes."""
        steps: dict[tuple[str, ...], None] = {}
        for actions in taken:
            if actions not in self._observed and actions not in steps:
                spent = self.cost.environment_steps + len(steps)
                if not self._may("steps", spent, self.settings.max_steps):
                    break
                steps[actions] = None
        self.cost.environment_steps += len(steps)
        observations = await self._together([self._sessions.observe(self.tree.task, actions) for actions in steps])
        self._observed |= {
            actions: observation
            for actions, observation in zip(steps, observations, strict=True)
            if observation is not None
        }

    async def _estimate(self, nodes: Sequence[int]) -> None:
        """Score the nodes that have not been, as far as the budget goes, in one request.

        What was executed is scored although the policy's tokens or the steps are used up: it may be the best.
        """
        assert self._reward_model is not None
        missing = [index for index in dict.fromkeys(nodes) if self.tree.nodes[index].estimate is None]
        budget = self.settings.max_scores
        paid = missing if budget is None else missing[: budget - self.cost.scored_states]
        if paid and self.ended_by not in (GATE, "seconds"):
            self.cost.scored_states += len(paid)
            (scores,) = await self._together([self._reward_model.score([self.tree.state(index) for index in paid])])
            for index, score in zip(paid, scores or [], strict=scores is not None):
                self.tree.nodes[index].estimate = float(score)
                self.cost.unread_states += score == -inf
                if isinstance(score, CostedValue):
                    self.cost.reward_tokens += score.tokens - score.cached
                    self.cost.cached_tokens += score.cached
                    self.cost.shortened_states += score.left_out > 0
        if len(paid) < len(missing):
            self.ended_by = self.ended_by or "scores"

    async def _together(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T | None]:
        """The answers to all calls; None for those that the budget of seconds cuts."""
        if not calls:
            return []
        running = [asyncio.ensure_future(call) for call in calls]
        try:
            done, _ = await asyncio.wait(running, timeout=self._seconds_left(), return_when=asyncio.FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            for future in running:
                future.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if any(future.cancelled() for future in running):
            self.ended_by = self.ended_by or "seconds"
        return [None if future.cancelled() else future.result() for future in running]

    def _may(self, name: str, spent: int, budget: int | None) -> bool:
        """Whether the search goes on: not if it has ended, or if this budget or that of seconds is used up."""
        left = self._seconds_left()
        if left is not None and left <= 0:
            self.ended_by = self.ended_by or "seconds"
        elif budget is not None and spent >= budget:
            self.ended_by = self.ended_by or name
        return not self.ended_by

    def _seconds_left(self) -> float | None:
        seconds = self.settings.max_seconds
        return None if seconds is None else self._started + seconds - time.monotonic()

    def _counted(self, index: int) -> list[int]:
        """The nodes whose scores make the value of one: itself, or the path to it without the root."""
        if self.settings.aggregate is Aggregate.last or not index:
            return [index]
        return self.tree.path(index)[1:]

    def _same_turn(self, parent: int, proposal: Proposal) -> int | None:
        nodes = self.tree.nodes
        return next((i for i in nodes[parent].children if nodes[i].proposal.message() == proposal.message()), None)

    def _stop_at_gate(self, nodes: Sequence[int]) -> None:
        gate = self.settings.gate
        if gate is not None and any(self._passes(index, gate) for index in nodes):
            self.ended_by = self.ended_by or GATE

    def _passes(self, index: int, gate: float) -> bool:
        return self.tree.nodes[index].terminal and self.values.get(index, -inf) >= gate

"""Playing single episodes: the first state of a task, one step, and a rollout to the end."""

from __future__ import annotations

from agentrm.environments import environment_class
from agentrm.environments.base import Task
from agentrm.errors import ContextOverflow
from agentrm.models.base import Policy, Sessions
from agentrm.models.state import Proposal, State


def opening(task: Task, observation: str, instructions: bool) -> str:
    """The first user turn: the environment's instruction, where asked for, and the first observation."""
    return f"{environment_class(task.environment).instruction}\n\n{observation}" if instructions else observation


async def begin(task: Task, sessions: Sessions, instructions: bool) -> State:
    """The state before the first action."""
    first = await sessions.observe(task, ())
    return State(task, opening(task, first.text, instructions), done=first.done)


async def advance(state: State, proposal: Proposal, sessions: Sessions) -> State:
    """The successor state after the environment executed the proposal's action."""
    return state.extend(proposal, await sessions.observe(state.task, (*state.actions, proposal.action)))


def step_limit(task: Task, max_depth: int) -> int:
    """The number of actions after which an episode is cut: the environment's own limit, or less."""
    return min(max_depth, environment_class(task.environment).max_steps)


async def rollout(
    state: State, policy: Policy, sessions: Sessions, max_depth: int, *, seed: int = 0, greedy: bool = False
) -> State:
    """Continue a state with one action at a time until the episode ends, is cut, or no longer fits the context."""
    limit = step_limit(state.task, max_depth)
    while not state.done and len(state.steps) < limit:
        try:
            (proposal,) = await policy.propose(state, 1, seed=seed, greedy=greedy)
        except ContextOverflow:
            break
        state = await advance(state, proposal, sessions)
    return state

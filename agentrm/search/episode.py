"""Playing single episodes: the first state of a task, one step, and a rollout to the end."""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.config.schema import ActionFormat
from agentrm.environments import environment_class
from agentrm.environments.base import Task
from agentrm.errors import ContextOverflow
from agentrm.models.actions import render
from agentrm.models.base import Policy, Sessions
from agentrm.models.state import Proposal, State


@dataclass(frozen=True, slots=True)
class Opening:
    """Writes the first user turn: the environment's instruction and example, where asked for, and the observation."""

    instructions: bool
    action_format: ActionFormat

    def __call__(self, task: Task, observation: str) -> str:
        if not self.instructions:
            return observation
        environment = environment_class(task.environment)
        parts = [environment.instruction]
        if environment.example:
            turns = [
                f"{turn.observation}\n{render(turn.thought, turn.action, self.action_format)}"
                for turn in environment.example
            ]
            parts += ["An example:", *turns, "Now it is your turn."]
        return "\n\n".join([*parts, observation])


async def begin(task: Task, sessions: Sessions, opening: Opening) -> State:
    """The state before the first action."""
    first = await sessions.observe(task, ())
    return State(task, opening(task, first.text), done=first.done)


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

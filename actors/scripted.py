"""An evaluation whose policy, environment and reward model answer at once: what is left is the cost of searching."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

import ray

from actors.searcher import TaskSearcher
from actors.workers import settle
from agentrm.config.schema import Evaluate
from agentrm.core.actions import ActionFormat
from agentrm.core.state import Proposal, State
from agentrm.core.task import Grade, Observation, Task
from agentrm.evaluation.evaluator import Evaluator, methods
from agentrm.evaluation.results import Results
from agentrm.search.episode import Opening

STEPS = 8
"""After so many actions an episode ends."""


class Corridor:
    """An environment of forks, as a pure function: `left` or `right` at each."""

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        """See `agentrm.core.protocols.Sessions`."""
        text = f"You are at fork {len(actions)} of corridor {task.index}. You may go left or right."
        return Observation(text, done=len(actions) == STEPS)


class CorridorGrader:
    """The share of right turns is the outcome."""

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        """See `agentrm.core.protocols.Grader`."""
        value = actions.count("right") / STEPS
        return Grade(value, value, value == 1)


class Wanderer:
    """A policy that turns at random, by task, state and seed."""

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        """See `agentrm.core.protocols.Policy`."""
        drawn = Random(f"{state.task.id}|{seed}|{state.actions}")
        actions = ["left"] * n if greedy else drawn.choices(("left", "right"), k=n)
        return [Proposal(action, action, logprob=-0.7, tokens=1) for action in actions]


class RightTurns:
    """A reward model that counts them."""

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `agentrm.core.protocols.RewardModel`."""
        return [state.actions.count("right") / STEPS for state in states]


class FirstAttempt:
    """A judge that always prefers the first one."""

    async def complete(self, question: str) -> str:
        """See `agentrm.models.judge.Completer`."""
        return "Best: 1"


def scripted_evaluator(settings: Evaluate, seed: int) -> Evaluator:
    """All methods of the settings in corridors."""
    opening = Opening(instructions=False, action_format=ActionFormat.bare)
    return Evaluator(settings, opening, seed, Wanderer(), Corridor(), CorridorGrader(), RightTurns(), FirstAttempt())


@ray.remote(max_restarts=-1, max_task_retries=-1)
class ScriptedSearcher(TaskSearcher):
    """A searcher in corridors."""

    def __init__(self, settings: Evaluate, seed: int, results: str) -> None:
        settle()
        super().__init__(scripted_evaluator(settings, seed), Results(results, methods(settings)))

    async def cpu_seconds(self) -> float:
        """What this process has used so far."""
        return time.process_time()

"""An oracle for AgentBoard's wording: the way of BabyAI's own oracle, in the fewest actions that it has for it."""

from __future__ import annotations

import pickle
from typing import Any

from minigrid.core.actions import Actions

from agentrm.environments.babyai import oracle
from agentrm.environments.babyai.board import Board
from agentrm.environments.babyai.world import World

_LONGEST = 200


class _Recorded(World):
    """A world that keeps the engine's own actions."""

    def __init__(self, engine: Any, view: Any) -> None:
        self.executed: list[Actions] = []
        super().__init__(engine, view)

    def _run(self, primitive: Actions) -> None:
        if not self.status:
            self.executed.append(primitive)
        super()._run(primitive)


def solve(board: Board, limit: int) -> list[str]:
    """Actions from the first state of an episode to its end, or [] where no way of at most `limit` was found."""
    states = _states(board.engine)
    plan: list[str] = []
    at = 0
    while not board.status and len(plan) < limit:
        best = max(_steps(board, states, at), key=lambda step: (step[2].progress(), step[0]), default=None)
        if best is not None:
            at, action, board = best
        else:
            # The mission is done, but some subgoals are not: what is in view counts for one of them at a time.
            action = "turn left" if plan[-1:] == ["turn right"] else "turn right"
            board = _after(board, action)
        plan.append(action)
    return plan if board.status == "success" else []


def _steps(board: Board, states: list[Any], at: int) -> list[tuple[int, str, Board]]:
    """The actions that lead to a later state of the way: how far, and what is there."""
    last = {state: number for number, state in enumerate(states)}
    tried = [(action, _after(board, action)) for action, plan in board.actions.items() if plan]
    numbered = [(last.get(_state(after.engine), -1), action, after) for action, after in tried]
    return [step for step in numbered if step[0] > at]


def _states(engine: Any) -> list[Any]:
    """The states that the oracle leads through, from the first."""
    world = _Recorded(pickle.loads(pickle.dumps(engine)), engine.gen_obs())
    oracle.solve(world, _LONGEST)
    copy = pickle.loads(pickle.dumps(engine))
    states = [_state(copy)]
    for primitive in world.executed:
        copy.step(primitive)
        states.append(_state(copy))
    return states


def _state(engine: Any) -> Any:
    carried = engine.carrying and (engine.carrying.type, engine.carrying.color)
    place = int(engine.agent_pos[0]), int(engine.agent_pos[1]), int(engine.agent_dir)
    return place, carried, engine.grid.encode().tobytes()


def _after(board: Board, action: str) -> Board:
    copy: Board = pickle.loads(pickle.dumps(board))
    copy.act(action)
    return copy

"""Maze: find the way to a position in a maze that is read wall by wall, in the form of LMRL-Gym's text maze."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.base import Environment, Turn
from agentrm.environments.maze.grids import (
    DOUBLE_T,
    DOUBLE_T_GOAL,
    MOVES,
    Cell,
    Grid,
    distances,
    double_t,
    floor,
    is_wall,
    loops,
    neighbour,
    perfect,
    rooms,
)
from agentrm.environments.support import COMPLETED, GENERATED_SIZES, at_least, check_kind, derive_seed, digest, split_of

# How each kind is drawn: the generator, and how many crossings or rooms a side has.
STYLES: dict[str, tuple[Callable[[Random, int], Grid], int]] = {
    "perfect_tiny": (perfect, 3),
    "loops_tiny": (loops, 3),
    "perfect_small": (perfect, 4),
    "perfect_medium": (perfect, 6),
    "perfect_large": (perfect, 8),
    "loops_medium": (loops, 6),
    "loops_large": (loops, 8),
    "rooms_medium": (rooms, 2),
    "rooms_large": (rooms, 3),
}
# A start is drawn this many moves from its goal; the most leaves a fifth of `max_steps` for wrong turns.
SHORTEST, LONGEST = 4, 40
_SIDES = {"right": "to your right", "left": "to your left", "up": "above you", "down": "below you"}


@dataclass(frozen=True, slots=True)
class Puzzle:
    """One maze with its start, its goal, and the moves that each floor cell is away from the goal."""

    grid: Grid
    start: Cell
    goal: Cell
    distances: dict[Cell, int]


class Maze(Environment):
    """Mazes by style and size, and LMRL-Gym's double T.

    Every observation gives the goal, the position and the walls around it. Positions are "row, column", in plain
    digits (LMRL-Gym writes 11 as "1 1"). The test split of `double_t` is LMRL-Gym's maze with its 25 starts; in train
    and valid it has other proportions and may be turned. All other tasks are drawn by seed, and belong to the split
    that their content hashes to, so that no two splits share one.

    Outcome is 1 when the goal is reached. Progress is the share of the shortest way from the start that the best
    position so far has saved.
    """

    name: ClassVar[str] = "maze"
    engine: ClassVar[str] = "own grids"
    licence: ClassVar[str] = "Apache-2.0"
    kinds: ClassVar[tuple[str, ...]] = (*STYLES, "double_t")
    max_steps: ClassVar[int] = 50
    snapshots: ClassVar[bool] = True
    instruction: ClassVar[str] = (
        "You are in a maze and have to reach the goal. Positions are given as row, column: moving down adds 1 to the "
        "row, moving right adds 1 to the column. A move into a wall leaves you where you are. Actions: move up, "
        "move down, move left, move right."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            "The goal is at position 3, 3. Your current position is at position 1, 1. There are walls to your left, "
            "above you, below you.",
            "The goal lies two rows below and two columns to the right. Below me is a wall, so I go right first.",
            "move right",
        ),
        Turn(
            "The goal is at position 3, 3. Your current position is at position 1, 2. There are walls above you, "
            "below you.",
            "There is still a wall below me; only the right leads on.",
            "move right",
        ),
        Turn(
            "The goal is at position 3, 3. Your current position is at position 1, 3. There are walls to your right, "
            "above you.",
            "I am in the goal's column now and the way down is open.",
            "move down",
        ),
        Turn(
            "The goal is at position 3, 3. Your current position is at position 2, 3. There are walls to your right, "
            "to your left.",
            "One more row down and I am there.",
            "move down",
        ),
    )

    def __init__(self) -> None:
        self._task: Task | None = None
        self._puzzle: Puzzle | None = None
        self._position: Cell = (0, 0)
        self._nearest = 0

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        check_kind(cls.name, cls.kinds, kind, split)
        if (kind, split) == ("double_t", "test"):
            return len(floor(DOUBLE_T)) - 1
        return GENERATED_SIZES[split]

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self._task, self._puzzle = task, _puzzle(task)
        self._position = self._puzzle.start
        self._nearest = self._puzzle.distances[self._position]
        return Observation(self._describe())

    def step(self, action: str) -> Observation:
        verb, _, move = " ".join(action.lower().split()).partition(" ")
        if verb != "move" or move not in MOVES:
            return Observation(
                f"That is not an action: move up, move down, move left or move right. {self._describe()}"
            )
        after = neighbour(self._position, move)
        if not is_wall(self._live.grid, after):
            self._position = after
            self._nearest = min(self._nearest, self._live.distances[after])
        if self._position == self._live.goal:
            return Observation(f"Success! You have reached the goal. {COMPLETED}", done=True)
        return Observation(self._describe())

    def grade(self) -> Grade:
        reached = self._position == self._live.goal
        progress = 1 - self._nearest / self._live.distances[self._live.start]
        return Grade(outcome=float(reached), progress=progress, success=reached)

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        self.reset(self._task)
        cell, actions = self._live.start, []
        while cell != self._live.goal:
            move = min(
                MOVES, key=lambda move: self._live.distances.get(neighbour(cell, move), len(self._live.distances))
            )
            cell = neighbour(cell, move)
            actions.append(f"move {move}")
        return actions

    def thought(self, plan: Sequence[str]) -> str:
        (goal_row, goal_column), (row, column) = self._live.goal, self._position
        rows, columns = goal_row - row, goal_column - column
        down = f"{abs(rows)} {'down' if rows > 0 else 'up'}" if rows else "there"
        right = f"{abs(columns)} {'right' if columns > 0 else 'left'}" if columns else "there"
        free = [move for move in MOVES if not is_wall(self._live.grid, neighbour(self._position, move))]
        return (
            f"Row {row}, {goal_row}: {down}. Column {column}, {goal_column}: {right}. "
            f"{at_least(abs(rows) + abs(columns))} I can move {' or '.join(free)}."
        )

    def admissible_actions(self) -> list[str]:
        return [f"move {move}" for move in MOVES]

    def fingerprint(self) -> str:
        return digest(self._live.grid, self._live.start, self._live.goal, self._position, self._nearest)

    def snapshot(self) -> Any:
        return self._task, self._position, self._nearest

    def restore(self, state: Any) -> None:
        self._task, self._position, self._nearest = state
        self._puzzle = _puzzle(self._task)

    def close(self) -> None:
        self._puzzle = None

    @property
    def _live(self) -> Puzzle:
        assert self._puzzle is not None, "reset(task) comes first"
        return self._puzzle

    def _describe(self) -> str:
        places = [_SIDES[move] for move in _SIDES if is_wall(self._live.grid, neighbour(self._position, move))]
        walls = "There are no walls near you."
        if places:
            walls = f"There {'is a wall' if len(places) == 1 else 'are walls'} {', '.join(places)}."
        (goal_row, goal_column), (row, column) = self._live.goal, self._position
        return (
            f"The goal is at position {goal_row}, {goal_column}. "
            f"Your current position is at position {row}, {column}. {walls}"
        )


@lru_cache(maxsize=4096)
def _puzzle(task: Task) -> Puzzle:
    """The maze of a task: the first draw that belongs to the task's split."""
    if (task.kind, task.split) == ("double_t", "test"):
        starts = [cell for cell in floor(DOUBLE_T) if cell != DOUBLE_T_GOAL]
        return Puzzle(DOUBLE_T, starts[task.index], DOUBLE_T_GOAL, distances(DOUBLE_T, DOUBLE_T_GOAL))
    draw = 0
    while True:
        rng = Random(derive_seed(task.environment, task.seed, task.kind, task.split, task.index, draw))
        if task.kind == "double_t":
            grid, goal = double_t(rng)
        else:
            style, cells = STYLES[task.kind]
            grid = style(rng, cells)
            goal = rng.choice(floor(grid))
        away = distances(grid, goal)
        starts = [cell for cell in sorted(away) if SHORTEST <= away[cell] <= LONGEST]
        start = rng.choice(starts)
        if split_of(repr((grid, start, goal))) == task.split:
            return Puzzle(grid, start, goal, away)
        draw += 1

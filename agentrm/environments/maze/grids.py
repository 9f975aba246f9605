"""Mazes as grids of wall and floor: the field's double T, and seeded generators of other shapes.

A grid is a tuple of equally long strings, `#` for wall and `.` for floor, walled all around; a cell is (row, column).
"""

from __future__ import annotations

from collections import deque
from random import Random

Grid = tuple[str, ...]
Cell = tuple[int, int]
MOVES: dict[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}

# LMRL-Gym's maze for text agents; its goal is the foot of the long stem and every other floor cell is a start.
DOUBLE_T: Grid = (
    "#############",
    "#.....#.....#",
    "###.#####.###",
    "###.#####.###",
    "###.#####.###",
    "###.......###",
    "######.######",
    "######.######",
    "######.######",
    "#############",
)
DOUBLE_T_GOAL: Cell = (8, 6)


def floor(grid: Grid) -> list[Cell]:
    """All floor cells, row by row."""
    return [(row, column) for row, line in enumerate(grid) for column, mark in enumerate(line) if mark == "."]


def neighbour(cell: Cell, move: str) -> Cell:
    """The cell that a move leads to, wall or not."""
    return cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]


def is_wall(grid: Grid, cell: Cell) -> bool:
    return grid[cell[0]][cell[1]] == "#"


def distances(grid: Grid, goal: Cell) -> dict[Cell, int]:
    """Moves from each floor cell to the goal on a shortest path; cells without a way to it are left out."""
    lengths = {goal: 0}
    queue = deque([goal])
    while queue:
        cell = queue.popleft()
        for move in MOVES:
            after = neighbour(cell, move)
            if after not in lengths and not is_wall(grid, after):
                lengths[after] = lengths[cell] + 1
                queue.append(after)
    return lengths


def perfect(rng: Random, cells: int) -> Grid:
    """A maze of `cells` by `cells` crossings in which one way leads from each place to each other."""
    return _render(_carve(rng, cells))


def loops(rng: Random, cells: int) -> Grid:
    """A perfect maze of which an eighth of the inner walls is taken down, so that ways run in circles."""
    open_cells = _carve(rng, cells)
    inner = range(1, 2 * cells)
    walls = [
        (row, column) for row in inner for column in inner if (row + column) % 2 and (row, column) not in open_cells
    ]
    return _render(open_cells | set(rng.sample(walls, max(1, len(walls) // 8))))


def rooms(rng: Random, cells: int) -> Grid:
    """`cells` by `cells` rooms of three by three with doors: one way at least between any two, often two."""
    plan = _carve(rng, cells)
    side = 4 * cells + 1
    open_cells = {(row, column) for row in range(side) for column in range(side) if row % 4 and column % 4}
    for row in range(1, 2 * cells):
        for column in range(1, 2 * cells):
            if (row + column) % 2 and ((row, column) in plan or rng.random() < 0.2):
                # In the plan a wall between two rooms is one cell; here it is three, of which one becomes the door.
                shift = rng.choice((-1, 0, 1))
                open_cells.add((2 * row + shift * (row % 2), 2 * column + shift * (column % 2)))
    return _render(open_cells)


def double_t(rng: Random) -> tuple[Grid, Cell]:
    """A double T of other proportions than LMRL-Gym's, turned or mirrored, and the foot of its stem."""
    while True:
        bar, upper, arm, lower = rng.randint(2, 4), rng.randint(1, 4), rng.randint(1, 3), rng.randint(1, 4)
        arm = min(arm, bar - 1)
        middle, width, height = bar + arm + 1, 2 * (bar + arm) + 3, upper + lower + 4
        crossing = 2 + upper
        open_cells = {(crossing, column) for column in range(middle - bar, middle + bar + 1)}
        open_cells |= {(row, middle) for row in range(crossing, crossing + lower + 1)}
        for stem in (middle - bar, middle + bar):
            open_cells |= {(row, stem) for row in range(1, crossing)}
            open_cells |= {(1, column) for column in range(stem - arm, stem + arm + 1)}
        grid, goal = _render(open_cells, height, width), (crossing + lower, middle)
        if grid != DOUBLE_T:
            break
    if rng.random() < 0.5:
        grid, goal = tuple(reversed(grid)), (height - 1 - goal[0], goal[1])
    if rng.random() < 0.5:
        grid, goal = tuple("".join(line) for line in zip(*grid, strict=True)), (goal[1], goal[0])
    return grid, goal


def _carve(rng: Random, cells: int) -> set[Cell]:
    """The floor of a perfect maze, by a random depth-first walk; crossings have odd coordinates."""
    path = [(2 * rng.randrange(cells) + 1, 2 * rng.randrange(cells) + 1)]
    carved = {path[0]}
    while path:
        row, column = path[-1]
        ahead = [
            (down, right)
            for down, right in MOVES.values()
            if _is_new(row + 2 * down, column + 2 * right, cells, carved)
        ]
        if not ahead:
            path.pop()
            continue
        down, right = rng.choice(ahead)
        path.append((row + 2 * down, column + 2 * right))
        carved |= {(row + down, column + right), path[-1]}
    return carved


def _is_new(row: int, column: int, cells: int, carved: set[Cell]) -> bool:
    return 0 < row < 2 * cells and 0 < column < 2 * cells and (row, column) not in carved


def _render(open_cells: set[Cell], height: int = 0, width: int = 0) -> Grid:
    """The grid with these floor cells; without sizes the smallest one that holds them within walls."""
    height = height or max(row for row, _ in open_cells) + 2
    width = width or max(column for _, column in open_cells) + 2
    return tuple(
        "".join("." if (row, column) in open_cells else "#" for column in range(width)) for row in range(height)
    )

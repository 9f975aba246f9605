from random import Random

import pytest

from agentrm.core.task import SPLITS, Task
from agentrm.environments.maze.environment import LONGEST, SHORTEST, Puzzle, _puzzle
from agentrm.environments.maze.grids import (
    DOUBLE_T,
    DOUBLE_T_GOAL,
    MOVES,
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
from agentrm.environments.registry import make

UPPER_LEFT = Task("maze", "double_t", "test", 0)


@pytest.fixture
def environment():
    found = make("maze")
    yield found
    found.close()


def ways_between_neighbours(grid: Grid) -> int:
    """Pairs of floor cells side by side."""
    steps = [neighbour(cell, move) for cell in floor(grid) for move in MOVES]
    return sum(not is_wall(grid, cell) for cell in steps) // 2


def test_the_double_t_by_hand(environment) -> None:
    first = environment.reset(UPPER_LEFT)
    assert first.text == (
        "The goal is at position 8, 6. Your current position is at position 1, 1. "
        "There are walls to your left, above you, below you."
    )
    expected = ["right"] * 2 + ["down"] * 4 + ["right"] * 3 + ["down"] * 3
    plan = environment.expert_actions()
    assert plan == [f"move {move}" for move in expected]
    assert environment.thought(plan) == (
        "Row 1, 8: 7 down. Column 1, 6: 5 right. At least 12 more actions. I can move right."
    )
    for move in expected[:-1]:
        assert not environment.step(f"move {move}").done
    assert environment.thought(plan[-1:]) == (
        "Row 7, 8: 1 down. Column 6, 6: there. At least 1 more action. I can move up or down."
    )
    last = environment.step("move down")
    assert last.done
    assert last.text == "Success! You have reached the goal. The task is completed."


def test_the_double_t_has_all_25_starts() -> None:
    environment = make("maze")
    assert environment.size("double_t", "test") == 25
    starts = {_puzzle(Task("maze", "double_t", "test", index)).start for index in range(25)}
    assert starts == set(floor(DOUBLE_T)) - {DOUBLE_T_GOAL}


def test_progress_is_the_share_of_the_way_and_never_falls(environment) -> None:
    environment.reset(UPPER_LEFT)
    assert environment.grade().progress == 0
    progress = []
    for move in ("right", "left", "up", "right", "right"):
        environment.step(f"move {move}")
        progress.append(environment.grade().progress)
    assert progress == pytest.approx([1 / 12, 1 / 12, 1 / 12, 1 / 12, 2 / 12])


def test_a_wall_and_an_unknown_action_leave_the_position(environment) -> None:
    first = environment.reset(UPPER_LEFT).text
    assert environment.step("move up").text == first
    refusal = environment.step("move north").text
    assert refusal == f"That is not an action: move up, move down, move left or move right. {first}"
    assert environment.step("  MOVE \n right ").text.startswith(
        "The goal is at position 8, 6. Your current position is"
    )
    assert environment._position == (1, 2)


def test_the_example_is_what_the_environment_says(environment) -> None:
    grid = ("#####", "#...#", "###.#", "#...#", "#####")
    environment.reset(UPPER_LEFT)
    environment._puzzle = Puzzle(grid, (1, 1), (3, 3), distances(grid, (3, 3)))
    environment._position = (1, 1)
    said = environment._describe()
    for turn in environment.example:
        assert turn.observation == said
        observation = environment.step(turn.action)
        said = observation.text
    assert observation.done


def test_one_way_leads_through_a_perfect_maze() -> None:
    for seed in range(20):
        grid = perfect(Random(seed), 6)
        assert len(grid) == len(grid[0]) == 13
        assert len(floor(grid)) == 2 * 36 - 1
        assert ways_between_neighbours(grid) == len(floor(grid)) - 1
        assert len(distances(grid, (1, 1))) == len(floor(grid))


def test_ways_run_in_circles_where_walls_are_taken_down() -> None:
    for seed in range(20):
        grid = loops(Random(seed), 6)
        # Of 60 inner walls a perfect maze opens 35; an eighth of the other 25 is 3.
        assert len(floor(grid)) == 71 + 3
        assert ways_between_neighbours(grid) == len(floor(grid)) - 1 + 3
        assert len(distances(grid, (1, 1))) == len(floor(grid))


def test_all_rooms_can_be_entered() -> None:
    for seed in range(20):
        grid = rooms(Random(seed), 3)
        assert len(grid) == len(grid[0]) == 13
        assert len(floor(grid)) >= 9 * 9 + 8
        assert len(distances(grid, (1, 1))) == len(floor(grid))


def test_other_double_ts_are_not_the_official_one() -> None:
    for seed in range(200):
        grid, goal = double_t(Random(seed))
        assert grid != DOUBLE_T
        away = distances(grid, goal)
        assert len(away) == len(floor(grid))
        assert ways_between_neighbours(grid) == len(floor(grid)) - 1


def test_every_kind_is_solved_within_the_step_limit(environment) -> None:
    for kind in environment.kinds:
        for index in range(25):
            environment.reset(Task("maze", kind, "test", index))
            actions = environment.expert_actions()
            if kind != "double_t":
                assert SHORTEST <= len(actions) <= LONGEST
            for action in actions:
                observation = environment.step(action)
            assert observation.done
            assert environment.grade().success
            assert len(actions) == environment._live.distances[environment._live.start] < environment.max_steps


@pytest.mark.parametrize("kind", ["perfect_small", "double_t"])
def test_splits_share_no_instance(kind: str) -> None:
    def contents(split: str) -> set[tuple]:
        count = 25 if (kind, split) == ("double_t", "test") else 150
        puzzles = [_puzzle(Task("maze", kind, split, index, seed)) for index in range(count) for seed in (0, 1)]
        return {(puzzle.grid, puzzle.start, puzzle.goal) for puzzle in puzzles}

    train, valid, test = (contents(split) for split in SPLITS)
    assert not (train & valid or train & test or valid & test)


def test_a_task_is_the_same_on_every_machine(environment) -> None:
    environment.reset(Task("maze", "rooms_large", "valid", 7, 3))
    assert environment.fingerprint() == "0272def70e2f378c3b38ac176d40c6f0"

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.adapters.gymnasium import GymnasiumEnvironment

pytest.importorskip("gymnasium")


class Guess(GymnasiumEnvironment):
    name = "guess"
    levels: ClassVar[Mapping[str, Any]] = {
        "small": {"id": "guess_game:Guess-v0", "highest": 9},
        "large": {"id": "guess_game:Guess-v0", "highest": 100},
    }
    max_steps = 10
    instruction = "Find the secret number. Actions: guess <number>."


class Lake(GymnasiumEnvironment):
    """Gymnasium's own FrozenLake: an observation and an action that are no text."""

    name = "lake"
    levels: ClassVar[Mapping[str, Any]] = {
        "still": {"id": "FrozenLake-v1", "is_slippery": False, "render_mode": "ansi"},
    }
    max_steps = 30
    instruction = "Walk over the ice from S to G. Actions: left, down, right, up."
    snapshots = True

    def text(self, observation: Any) -> str:
        return f"You stand in row {observation // 4}, column {observation % 4}."

    def parse(self, action: str) -> Any:
        moves = ("left", "down", "right", "up")
        return moves.index(action) if action in moves else None

    def outcome(self, total: float) -> float:
        return 1.0 if total > 0 else 0.0


@pytest.fixture
def guess(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guess]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    environment = Guess()
    yield environment
    environment.close()


def search(environment: Guess, task: Task, low: int, high: int) -> list[tuple[str, Observation, Grade]]:
    """Play by bisection; what was said, answered and graded."""
    environment.reset(task)
    played = []
    while True:
        action = f"guess {(low + high) // 2}"
        observation = environment.step(action)
        played.append((action, observation, environment.grade()))
        if observation.done:
            return played
        low, high = ((low + high) // 2 + 1, high) if observation.text == "more" else (low, (low + high) // 2 - 1)


def test_kinds_splits_and_tasks_are_those_of_the_class(guess: Guess) -> None:
    assert guess.kinds == ("small", "large")
    assert [Guess.size("small", split) for split in ("train", "valid", "test")] == [10_000, 500, 500]
    with pytest.raises(UserError, match="no kind 'huge'"):
        Guess.size("huge", "train")
    with pytest.raises(UserError, match="out of range"):
        guess.reset(Task("guess", "small", "test", 500))


def test_an_episode_is_a_function_of_the_task(guess: Guess) -> None:
    tasks = [Task("guess", "large", split, index) for split in ("train", "test") for index in range(6)]
    played = [search(guess, task, 1, 100) for task in tasks]
    prints = [guess.fingerprint()]
    assert [search(guess, task, 1, 100) for task in tasks] == played
    assert [guess.fingerprint()] == prints
    # With a limit of two steps, which Gymnasium's registration asks for, most would have been cut.
    assert max(len(episode) for episode in played) > 3
    for episode in played:
        assert [grade.success for *_, grade in episode] == [False] * (len(episode) - 1) + [True]
        assert episode[-1][2] == Grade(1.0, 1.0, True)
        assert episode[0][2] == Grade(0.0, 0.0, False) or len(episode) == 1
    assert len({episode[-1][0] for episode in played}) > 6


def test_the_seed_is_that_of_the_split_and_the_universe(guess: Guess, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    reset = guess.game.unwrapped.reset
    monkeypatch.setattr(
        guess.game.unwrapped, "reset", lambda seed, options=None: seeds.append(seed) or reset(seed=seed)
    )
    for split, index, universe in (("train", 7, 0), ("valid", 7, 0), ("test", 499, 0), ("train", 7, 2)):
        guess.reset(Task("guess", "small", split, index, universe))
    assert seeds == [7, 10_007, 10_999, 22_007]


def test_junk_is_answered_and_a_lost_game_ends(guess: Guess) -> None:
    guess.reset(Task("guess", "small", "train", 0))
    for junk in ("", "x" * 10_000, "guess\x00 3", "\ud800", "Guess 3", "去"):
        assert guess.step(junk) == Observation("That is not an action.")
    assert guess.step("guess a lot") == Observation("say guess and a number")
    for turn in range(8):
        assert guess.step("guess 77").done == (turn == 7)
    assert guess.grade() == Grade(0.0, 0.0, False)


def test_without_snapshots_one_is_refused(guess: Guess) -> None:
    guess.reset(Task("guess", "small", "train", 0))
    with pytest.raises(NotImplementedError, match="replay"):
        guess.snapshot()


def test_a_game_without_text_is_described_by_the_class() -> None:
    environment, other = Lake(), Lake()
    task = Task("lake", "still", "train", 0)
    assert environment.reset(task).text == "You stand in row 0, column 0."
    assert environment.step("jump").text == "That is not an action."
    for action in ("down", "down", "right"):
        environment.step(action)
    state, here = environment.snapshot(), environment.fingerprint()
    for engine in (environment, other):
        for _ in range(2):
            engine.restore(state)
            assert engine.fingerprint() == here
            assert engine.step("down").text == "You stand in row 3, column 1."
            assert not engine.step("right").done
            assert engine.step("right") == Observation("You stand in row 3, column 3.", done=True)
            assert engine.grade() == Grade(1.0, 1.0, True)
    environment.close()
    environment.close()
    other.close()


def test_observations_that_are_no_text_ask_for_a_text() -> None:
    class Mute(GymnasiumEnvironment):
        name = "mute"
        levels: ClassVar[Mapping[str, Any]] = {"still": {"id": "FrozenLake-v1"}}
        max_steps = 30
        instruction = "Walk."

    environment = Mute()
    with pytest.raises(UserError, match="mute observes int, not text: give its class a `text`"):
        environment.reset(Task("mute", "still", "train", 0))
    environment.close()


@pytest.mark.parametrize("identifier", ["Nowhere-v0", "no_such_module:Guess-v0"])
def test_an_unknown_game_is_named(identifier: str) -> None:
    class Nowhere(GymnasiumEnvironment):
        name = "nowhere"
        levels: ClassVar[Mapping[str, Any]] = {"one": {"id": identifier}}
        max_steps = 1
        instruction = "Nothing."

    with pytest.raises(UserError, match=f"nowhere cannot be made by Gymnasium.*{identifier}") as raised:
        Nowhere()
    assert "\n" not in str(raised.value)

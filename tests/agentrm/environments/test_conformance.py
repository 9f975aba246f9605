"""What every environment must do, whatever its engine."""

import random
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from agentrm.environments import SPLITS, Environment, Task, environment_class, make, names
from agentrm.errors import UserError

KINDS_TESTED = 4
# A perturbed environment is one, too.
NAMES = [*names(), "alfworld+all", "babyai+all"]
JUNK = [
    "",
    "   ",
    "xyzzy",
    "a" * 10_000,
    "go to \x00\x1b[31m\x07",
    "go to\n\nthe door\t\r\n",
    "\ud800 lone surrogate",
    "去红球那里",
    "اذهب إلى الباب",
    "🙂" * 20,
    "None",
    "{agent.name}",
    "'; drop table",
]


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Environment, Environment]]:
    """Two instances of each environment."""
    try:
        first, second = make(request.param), make(request.param)
    except UserError as error:
        pytest.skip(str(error))
    yield first, second
    first.close()
    second.close()


def tasks(environment: Environment, split: str = "train") -> list[Task]:
    every = max(1, len(environment.kinds) // KINDS_TESTED)
    return [Task(environment.name, kind, split, 0) for kind in environment.kinds[::every]]


@pytest.fixture(scope="module")
def solved(pair: tuple[Environment, Environment]) -> list[tuple[Task, list[str]]]:
    """Tasks with the actions of the oracle."""
    environment, _ = pair
    found = []
    for task in tasks(environment):
        environment.reset(task)
        if actions := environment.expert_actions():
            found.append((task, actions))
    return found


def test_it_is_a_function_of_task_and_actions(pair: tuple[Environment, Environment]) -> None:
    first, second = pair
    for task in tasks(first):
        assert first.reset(task) == second.reset(task)
        admissible = first.admissible_actions()
        assert admissible == second.admissible_actions()
        for action in random.Random(0).choices(admissible, k=6):
            observation = first.step(action)
            assert observation == second.step(action)
            assert first.fingerprint() == second.fingerprint()
            assert first.grade() == second.grade()
            if observation.done:
                break


def test_nothing_is_carried_over_to_the_next_task(pair: tuple[Environment, Environment]) -> None:
    environment, other = pair
    task, *others = tasks(environment)
    expected = other.reset(task), other.fingerprint(), other.grade()
    for before in others:
        environment.reset(before)
        environment.step("look around")
        assert (environment.reset(task), environment.fingerprint(), environment.grade()) == expected


def test_the_oracle_succeeds_and_progress_only_rises(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]
) -> None:
    environment, _ = pair
    assert len(solved) >= len(tasks(environment)) - 1
    for task, actions in solved:
        environment.reset(task)
        grades = [environment.grade()]
        for number, action in enumerate(actions):
            observation = environment.step(action)
            grades.append(environment.grade())
            assert observation.done == (number == len(actions) - 1)
        assert grades[0].outcome == 0
        assert not grades[0].success
        assert grades[-1].success
        assert grades[-1].outcome == pytest.approx(1)
        assert grades[-1].progress == pytest.approx(1)
        progress = [grade.progress for grade in grades]
        assert progress == sorted(progress)
        assert all(0 <= grade.progress <= 1 and 0 <= grade.outcome <= 1 for grade in grades)


def test_the_oracle_leaves_the_episode_reset(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    task = tasks(environment)[0]
    environment.reset(task)
    fresh = environment.fingerprint(), environment.grade()
    environment.expert_actions()
    assert (environment.fingerprint(), environment.grade()) == fresh


def test_junk_is_a_normal_action(pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]) -> None:
    environment, _ = pair
    task, actions = min(solved, key=lambda solution: len(solution[1]))
    environment.reset(task)
    for junk in JUNK:
        observation = environment.step(junk)
        assert observation.text
        assert not observation.done
        assert 0 <= environment.grade().progress < 1
    for action in actions:
        observation = environment.step(action)
    assert observation.done
    assert environment.grade().success


def test_a_state_can_be_had_again(pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]) -> None:
    """By a snapshot, in this or another live engine, or by replay."""
    environment, other = pair
    task, actions = sorted(solved, key=lambda solution: len(solution[1]))[len(solved) // 2]
    middle = len(actions) // 2
    environment.reset(task)
    for action in actions[:middle]:
        environment.step(action)
    state = environment.snapshot() if environment.snapshots else None
    expected = environment.fingerprint(), environment.grade(), environment.admissible_actions()
    rest = [environment.step(action) for action in actions[middle:]]
    other.reset(tasks(environment)[-1])
    for engine in (environment, other):
        if environment.snapshots:
            engine.restore(state)
        else:
            engine.reset(task)
            for action in actions[:middle]:
                engine.step(action)
        assert (engine.fingerprint(), engine.grade(), engine.admissible_actions()) == expected
        assert [engine.step(action) for action in actions[middle:]] == rest


def test_without_snapshots_one_is_refused(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    if not environment.snapshots:
        with pytest.raises(NotImplementedError, match="replay"):
            environment.snapshot()


@pytest.mark.parametrize("name", NAMES)
def test_tasks_that_do_not_exist_are_refused(name: str) -> None:
    cls = environment_class(name)
    for kind in cls.kinds:
        assert all(cls.size(kind, split) > 0 for split in SPLITS)
    with pytest.raises(UserError, match="no kind 'nonsense'"):
        cls.size("nonsense", "train")
    with pytest.raises(UserError, match="unknown split 'dev'"):
        cls.size(cls.kinds[0], "dev")


def test_an_index_out_of_range_is_refused(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    kind = environment.kinds[0]
    for index in (-1, environment.size(kind, "test")):
        with pytest.raises(UserError, match="out of range"):
            environment.reset(Task(environment.name, kind, "test", index))


def test_splits_start_differently(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    firsts = []
    for split in SPLITS:
        environment.reset(Task(environment.name, environment.kinds[0], split, 0))
        firsts.append(environment.fingerprint())
    assert len(set(firsts)) == len(SPLITS)


@pytest.mark.parametrize("name", NAMES)
def test_close_leaves_nothing_behind(name: str) -> None:
    def open_things() -> tuple[set[int], set[str], int]:
        processes = {child.pid for child in me.children(recursive=True)}
        return processes, {thread.name for thread in threading.enumerate()}, me.num_fds()

    def live_once() -> None:
        environment = make(name)
        environment.reset(tasks(environment)[0])
        environment.close()
        environment.close()

    me = psutil.Process()
    try:
        live_once()  # the first one may open what the engine's library keeps, once
    except UserError as error:
        pytest.skip(str(error))
    before = open_things()
    live_once()
    deadline = time.monotonic() + 5
    while open_things() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_things() == before


def test_generated_tasks_of_two_seeds_differ(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    if environment.name.startswith("scienceworld"):
        pytest.skip("its tasks are not generated")
    kind = environment.kinds[-1]
    texts = [environment.reset(Task(environment.name, kind, "train", 0, seed)).text for seed in range(4)]
    assert len(set(texts)) > 1

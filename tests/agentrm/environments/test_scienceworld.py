import os
from collections.abc import Iterator

import pytest

from agentrm.environments import SPLITS, Task, make
from agentrm.environments.scienceworld import VARIATIONS, ScienceWorld
from agentrm.errors import UserError

pytest.importorskip("scienceworld")


@pytest.fixture(scope="module")
def environment() -> Iterator[ScienceWorld]:
    try:
        found = make("scienceworld")
    except UserError as error:
        pytest.skip(str(error))
    assert isinstance(found, ScienceWorld)
    yield found
    found.close()


def test_tasks_are_the_engines_own_variations_in_its_own_split(environment: ScienceWorld) -> None:
    engine = environment._engine
    assert set(VARIATIONS) < set(engine.get_task_names())
    for kind in list(VARIATIONS)[::6]:
        first = 0
        engine.load(kind, 0)
        variations = (engine.get_variations_train(), engine.get_variations_dev(), engine.get_variations_test())
        for split, expected in zip(SPLITS, variations, strict=True):
            size = environment.size(kind, split)
            assert list(range(first, first + size)) == sorted(expected)
            first += size


def test_the_same_task_lists_things_in_the_same_order(environment: ScienceWorld) -> None:
    """The engine lists what its hash sets hold; loads of other tasks in between must not change the order."""
    task = Task("scienceworld", "boil", "train", 1)
    first = environment.reset(task)
    for index in range(3):
        environment.reset(Task("scienceworld", "find-plant", "train", index))
        assert environment.reset(task) == first


def test_the_wrong_focus_fails_and_ends_the_episode(environment: ScienceWorld) -> None:
    environment.reset(Task("scienceworld", "find-animal", "train", 0))
    observation = environment.step("focus on agent")
    assert observation.done
    assert environment.grade().outcome == 0
    assert not environment.grade().success


def test_the_heap_is_limited_and_the_variable_is_left_alone(environment: ScienceWorld) -> None:

    assert "-Xmx512m" not in os.environ.get("JAVA_TOOL_OPTIONS", "")
    megabytes = environment._engine._gateway.jvm.java.lang.Runtime.getRuntime().maxMemory() / 2**20
    assert megabytes < 600

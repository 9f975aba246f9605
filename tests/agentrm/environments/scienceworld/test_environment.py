import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS, Grade, Task
from agentrm.environments.registry import make
from agentrm.environments.scienceworld.environment import VARIATIONS, ScienceWorld

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
    game = environment._simulator.game
    game.load("boil", 0, "", False)
    assert set(VARIATIONS) < set(game.getTaskNames())
    for kind in list(VARIATIONS)[::6]:
        first = 0
        game.load(kind, 0, "", False)
        variations = (game.getVariationsTrain(), game.getVariationsDev(), game.getVariationsTest())
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


def test_the_score_of_the_episode_before_is_forgotten(environment: ScienceWorld) -> None:
    """The engine would show it after an action that takes no time, such as `task`."""
    task = Task("scienceworld", "find-animal", "train", 0)
    environment.reset(task)
    for last in (environment.expert_actions(), ["focus on agent"]):
        environment.reset(task)
        assert [environment.step(action) for action in last][-1].done
        environment.reset(task)
        assert not environment.step("task").done
        assert environment.grade() == Grade(outcome=0.0, progress=0.0, success=False)


def test_games_in_one_java_program_do_not_touch_each_other(environment: ScienceWorld) -> None:
    """Bees fly and pollinate at random, from numbers that the engine shares among its games."""

    def play(disturb: Callable[[], None]) -> list[tuple[str, str]]:
        environment.reset(Task("scienceworld", "grow-plant", "train", 2))
        trace = []
        for action in ["teleport to outside", *["wait1", "look around"] * 6]:
            trace.append((environment.step(action).text, environment.fingerprint()))
            disturb()
        return trace

    alone = play(lambda: None)
    assert len({fingerprint for _, fingerprint in alone}) > 6
    other = make("scienceworld")
    other.reset(Task("scienceworld", "find-animal", "train", 0))
    assert play(lambda: [other.step("wait1") for _ in range(2)]) == alone
    assert play(lambda: other.reset(Task("scienceworld", "chemistry-mix", "train", 0))) == alone
    other.close()
    assert play(lambda: None) == alone


def test_all_objects_share_one_java_program_with_a_bounded_heap(environment: ScienceWorld) -> None:
    others = [make("scienceworld") for _ in range(3)]
    programs = [child for child in psutil.Process().children() if "java" in child.name()]
    assert len(programs) == 1
    for other in others:
        other.close()
    assert programs[0].is_running()
    megabytes = environment._simulator._java._gateway.jvm.java.lang.Runtime.getRuntime().maxMemory() / 2**20
    assert 400 < megabytes < 600


def test_a_java_program_that_died_is_replaced() -> None:
    """In a process of its own, where no other object of this module lives in the killed one."""
    script = (
        "import psutil\n"
        "from agentrm.environments import Task, make\n"
        "first, task = make('scienceworld'), Task('scienceworld', 'boil', 'train', 0)\n"
        "text = first.reset(task).text\n"
        "(program,) = psutil.Process().children()\n"
        "program.kill()\n"
        "try:\n"
        "    first.step('wait1')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
        "second = make('scienceworld')\n"
        "first.close()\n"
        "assert second.reset(task).text == text\n"
        "second.close()\n"
        "assert not psutil.Process().children()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Py4J")

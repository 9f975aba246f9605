import pytest

pytest.importorskip("openpyxl")

from agentrm.core.task import SPLITS, Task
from agentrm.environments.registry import make
from agentrm.environments.support import split_of
from agentrm.environments.tools.operation import distance
from agentrm.environments.tools.tooloperation import draw_operation

EXAMPLE = Task("tooloperation", "todo", "train", 22)
KINDS = ("sheet", "todo")


@pytest.fixture
def environment():
    found = make("tooloperation")
    yield found
    found.close()


def test_distance_counts_what_differs() -> None:
    goal = {("a",): 1, ("b",): "x", ("c",): (1, 2)}
    assert distance(goal, goal) == 0
    assert distance({("a",): 1.01, ("b",): "x", ("c",): (1, 2)}, goal) == 0
    assert distance({("a",): 1.02, ("b",): "y", ("d",): 0}, goal) == 4
    assert distance({}, goal) == 3


def test_the_example_is_an_episode(environment) -> None:
    observation = environment.reset(EXAMPLE)
    progress = []
    for turn in environment.example:
        assert observation.text == turn.observation
        observation = environment.step(turn.action)
        progress.append(environment.grade().progress)
    assert observation.done
    assert environment.grade().success
    assert progress == [0, 0, 0, 0.5, 1]


def test_a_wrong_answer_loses_but_keeps_what_was_done(environment) -> None:
    environment.reset(EXAMPLE)
    for turn in environment.example[:-1]:
        environment.step(turn.action)
    assert environment.step('finish with Action Input: {"answer": 61}').done
    grade = environment.grade()
    assert (grade.outcome, grade.progress, grade.success) == (0.5, 0.5, False)


def test_progress_is_the_best_so_far(environment) -> None:
    task = next(
        task
        for task in (Task("tooloperation", "todo", "train", index) for index in range(100))
        if draw_operation(task).changes == 3 and draw_operation(task).goal.startswith("See to it that")
    )
    environment.reset(task)
    _, first, *_ = environment.expert_actions()
    environment.step(first)
    assert environment.grade().progress == pytest.approx(1 / 3)
    undo = first.replace("true", "TRUE").replace("false", "true").replace("TRUE", "false")
    assert not environment.step(undo).done
    assert environment.grade().progress == pytest.approx(1 / 3)
    environment.step(first)
    assert environment.grade().progress == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", KINDS)
def test_finish_too_early_loses(environment, kind: str) -> None:
    environment.reset(Task("tooloperation", kind, "train", 0))
    assert environment.step("finish with Action Input: {}").done
    assert not environment.grade().success


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracle_does_every_kind_of_task(environment, kind: str) -> None:
    lengths = set()
    for index in range(80):
        environment.reset(Task("tooloperation", kind, "test", index))
        actions = environment.expert_actions()
        assert len(actions) <= environment.max_steps
        lengths.add(len(actions))
        assert not any(environment.step(action).done for action in actions[:-1])
        assert environment.step(actions[-1]).done
        assert environment.grade().success
    assert len(lengths) >= 6


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_splits_ask_the_same(kind: str) -> None:
    goals = {
        split: {draw_operation(Task("tooloperation", kind, split, index)).goal for index in range(40)}
        for split in SPLITS
    }
    assert all(split_of(found) == split for split, members in goals.items() for found in members)
    assert len(goals["train"]) > 28


def test_another_way_to_the_same_workbook_counts(environment) -> None:
    """A column may be written cell by cell or as a range."""
    index = next(
        index
        for index in range(200)
        if draw_operation(Task("tooloperation", "sheet", "train", index)).goal.count("add a column Pay") == 1
        and "; then" not in draw_operation(Task("tooloperation", "sheet", "train", index)).goal
    )
    first = environment.reset(Task("tooloperation", "sheet", "train", index))
    name = first.text.split("Goal: ")[1].split()[0]
    environment.step(f'open_sheet with Action Input: {{"name": "{name}"}}')
    rows = environment._kit.get_all_values()[1:]
    values = [["Pay"], *([row[2] * row[3]] for row in rows)]
    action = f'{{"start_position": "E1", "end_position": "E{len(values)}", "values_list": {values}}}'.replace("'", '"')
    assert environment.step(f"update_range with Action Input: {action}").done
    assert environment.grade().success

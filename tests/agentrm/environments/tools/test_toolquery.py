import pytest

from agentrm.core.task import SPLITS, Task
from agentrm.environments.registry import make
from agentrm.environments.support import split_of
from agentrm.environments.tools.toolquery import KINDS, draw_question

EXAMPLE = Task("toolquery", "academia", "train", 5)


@pytest.fixture
def environment():
    found = make("toolquery")
    yield found
    found.close()


def goal(text: str) -> str:
    return text.split("\n\nGoal: ")[1]


def test_the_example_is_an_episode(environment) -> None:
    observation = environment.reset(EXAMPLE)
    for number, turn in enumerate(environment.example):
        assert observation.text == turn.observation
        assert environment.grade().progress == pytest.approx(number / 5)
        observation = environment.step(turn.action)
    assert observation.done
    assert environment.grade().success


def test_results_count_in_any_order_and_once(environment) -> None:
    environment.reset(EXAMPLE)
    environment.step('authorNodeCheck with Action Input: {"node": "Rosa Corrigan"}')
    assert environment.grade().progress == 0
    environment.step("loadAuthorNet with Action Input: {}")
    environment.step('authorNodeCheck with Action Input: {"node": "rosa corrigan"}')
    environment.step('authorNodeCheck with Action Input: {"node": "Rosa Corrigan"}')
    assert environment.grade().progress == pytest.approx(2 / 5)
    environment.step('authorNodeCheck with Action Input: {"node": "Ivan Keller"}')
    assert environment.grade().progress == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("answer", "progress"), [('"laboratory of falness"', 1 / 5), ('["Laboratory of Falness"]', 1 / 5), ('"Oslo"', 0)]
)
def test_a_guess_ends_the_episode_unsolved(environment, answer: str, progress: float) -> None:
    environment.reset(EXAMPLE)
    observation = environment.step(f'finish with Action Input: {{"answer": {answer}}}')
    assert observation.text == "The answer is handed in."
    assert observation.done
    grade = environment.grade()
    assert grade.outcome == grade.progress == pytest.approx(progress)
    assert not grade.success


def test_finish_without_an_answer_goes_on(environment) -> None:
    environment.reset(EXAMPLE)
    observation = environment.step("finish with Action Input: {}")
    assert observation.text == "ERROR | finish: answer: Field required"
    assert not observation.done


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracle_solves_every_kind_of_question(environment, kind: str) -> None:
    wordings = set()
    for index in range(120):
        observation = environment.reset(Task("toolquery", kind, "test", index))
        wordings.add(" ".join(goal(observation.text).split()[:4]))
        actions = environment.expert_actions()
        assert 2 <= len(actions) <= environment.max_steps
        assert not any(environment.step(action).done for action in actions[:-1])
        assert environment.step(actions[-1]).done
        assert environment.grade().success
    assert len(wordings) >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_splits_ask_the_same(kind: str) -> None:
    goals = {
        split: {draw_question(Task("toolquery", kind, split, index)).goal for index in range(60)} for split in SPLITS
    }
    assert all(split_of(found) == split for split, members in goals.items() for found in members)
    assert len(goals["train"]) > 45


def test_an_answer_agrees_with_the_database(environment) -> None:
    """Questions of one wording, answered by SQL instead of by calls."""
    checked = 0
    for index in range(300):
        question = draw_question(Task("toolquery", "movie", "train", index))
        if question.goal.startswith("How many dollars did "):
            title = question.goal.removeprefix("How many dollars did ").split(" earn above")[0]
            environment.reset(Task("toolquery", "movie", "train", index))
            query = "SELECT revenue - budget FROM movie WHERE title = ?"
            assert environment._database.column(query, title) == [question.answer]
            checked += 1
    assert checked >= 5


def test_a_snapshot_of_another_task_brings_its_world(environment) -> None:
    environment.reset(EXAMPLE)
    environment.step("loadPaperNet with Action Input: {}")
    state, print_before = environment.snapshot(), environment.fingerprint()
    environment.reset(Task("toolquery", "weather", "train", 0))
    environment.restore(state)
    assert environment.fingerprint() == print_before
    assert environment.step(environment.example[1].action).text == environment.example[2].observation

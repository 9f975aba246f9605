import pytest

pytest.importorskip("pyperplan")
from agentrm.core.task import Task
from agentrm.environments.pddl.engine import Problem
from agentrm.environments.pddl.generators import generated_problem
from agentrm.environments.pddl.language import BARMAN, BLOCKSWORLD, GRIPPER, LANGUAGES

BLOCKS = frozenset({"b1", "b2"}), {"pickup": 1, "putdown": 1, "stack": 2, "unstack": 2}
BALLS = frozenset({"ball1", "rooma", "roomb", "left", "right"}), {"move": 2, "pick": 3, "drop": 3}


@pytest.mark.parametrize(
    ("text", "atom"),
    [
        ("stack b1 on b2", ("stack", "b1", "b2")),
        ("Stack B1 on top of B2, please!", ("stack", "b1", "b2")),
        ("(stack b1 b2)", ("stack", "b1", "b2")),
        ("pick up b1", ("pickup", "b1")),
        ("put down b1", ("putdown", "b1")),
    ],
)
def test_actions_are_understood_by_their_words(text: str, atom: tuple[str, ...]) -> None:
    assert BLOCKSWORLD.understand(text, *BLOCKS) == atom


def test_agentboards_words_for_gripper() -> None:
    assert GRIPPER.understand("Pick up ball1 at rooma with arm right.", *BALLS) == ("pick", "ball1", "rooma", "right")
    assert GRIPPER.understand("Pickup ball1 at rooma with gripper right", *BALLS) == ("pick", "ball1", "rooma", "right")
    assert GRIPPER.understand("drop ball1 roomb left", *BALLS) == ("drop", "ball1", "roomb", "left")


def test_what_is_wrong_is_said() -> None:
    assert BLOCKSWORLD.understand("fly", *BLOCKS) == (
        "That is not an action. Actions are: pickup, putdown, stack, unstack."
    )
    assert BLOCKSWORLD.understand("stack b1 on b7", *BLOCKS) == (
        "That action lacks some of its objects. Its form is: stack <block> on <block>."
    )


def test_sentences() -> None:
    assert BLOCKSWORLD.fact(("on", "b1", "b2")) == "b1 is on b2."
    assert BARMAN.action(("grasp", "left", "shot1")) == "left grasp shot1"


@pytest.mark.parametrize("kind", LANGUAGES)
def test_every_fact_has_words_and_every_action_is_understood_as_itself(kind: str) -> None:
    language = LANGUAGES[kind]
    problem = Problem.parse(kind, generated_problem(Task("pddl", kind, "train", 0)))
    for atom in (*problem.facts, *problem.statics):
        sentence = language.fact(atom)
        assert "<" not in sentence
        assert all(name in sentence for name in atom[1:])
    for atom in problem.operators:
        assert language.understand(language.action(atom), problem.objects, problem.arity) == atom

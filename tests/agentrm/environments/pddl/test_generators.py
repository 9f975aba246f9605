import pytest

pytest.importorskip("pyperplan")
from agentrm.core.task import SPLITS, Task
from agentrm.environments.pddl.engine import Problem
from agentrm.environments.pddl.generators import DOMAIN_NAMES, generated_problem


@pytest.mark.parametrize("kind", DOMAIN_NAMES)
def test_no_problem_is_in_two_splits(kind: str) -> None:
    found = {
        split: {
            generated_problem(Task("pddl", kind, split, index, seed)).split("\n", 1)[1]
            for index in range(150)
            for seed in (0, 1)
        }
        for split in SPLITS
    }
    assert not found["train"] & found["valid"]
    assert not found["train"] & found["test"]
    assert not found["valid"] & found["test"]
    assert all(len(problems) > 200 for problems in found.values())


@pytest.mark.parametrize("kind", DOMAIN_NAMES)
def test_problems_can_be_solved_in_thirty_actions(kind: str) -> None:
    lengths = []
    for index in range(8):
        problem = Problem.parse(kind, generated_problem(Task("pddl", kind, "valid", index)))
        assert not problem.goals <= problem.initial
        lengths.append(len(problem.plan(30)))
    assert min(lengths) > 0
    assert len(set(lengths)) > 3

import os
import subprocess
import sys

import pytest

pytest.importorskip("pyperplan")
from agentrm.environments.pddl.engine import Problem

SWAP = """(define (problem swap) (:domain blocksworld-4ops) (:objects a b)
  (:init (arm-empty) (on a b) (on-table b) (clear a)) (:goal (and (on b a))))"""


def names(problem: Problem, state: frozenset[int]) -> set[tuple[str, ...]]:
    return {problem.facts[number] for number in state}


def test_a_problem_is_grounded() -> None:
    problem = Problem.parse("blocksworld", SWAP)
    assert names(problem, problem.initial) == {("arm-empty",), ("on", "a", "b"), ("on-table", "b"), ("clear", "a")}
    assert names(problem, problem.goals) == {("on", "b", "a")}
    assert problem.objects == {"a", "b"}
    assert problem.arity == {"pickup": 1, "putdown": 1, "stack": 2, "unstack": 2}
    unstack = problem.operators["unstack", "a", "b"]
    assert unstack.applicable(problem.initial)
    after = unstack.apply(problem.initial)
    assert names(problem, after) == {("holding", "a"), ("on-table", "b"), ("clear", "b")}
    assert not problem.operators["pickup", "b"].applicable(problem.initial)


def test_a_plan_of_the_least_length() -> None:
    plan = [("unstack", "a", "b"), ("putdown", "a"), ("pickup", "b"), ("stack", "b", "a")]
    assert Problem.parse("blocksworld", SWAP).plan(limit=4) == plan
    assert Problem.parse("blocksworld", SWAP).plan(limit=3) == []


def test_what_cannot_be_reached_has_no_plan() -> None:
    both = SWAP.replace("(on b a)", "(on b a) (on a b)")
    assert Problem.parse("blocksworld", both).plan(limit=30) == []


def test_actions_without_effect_are_none() -> None:
    text = """(define (problem p) (:domain gripper-strips) (:objects rooma roomb ball1 left)
      (:init (room rooma) (room roomb) (ball ball1) (gripper left) (at-robby rooma) (free left) (at ball1 rooma))
      (:goal (and (at ball1 roomb))))"""
    problem = Problem.parse("gripper", text)
    assert ("move", "rooma", "roomb") in problem.operators
    assert ("move", "rooma", "rooma") not in problem.operators
    assert ("room", "rooma") in problem.statics


def test_a_bracket_too_many_is_forgiven() -> None:
    assert Problem.parse("blocksworld", f"{SWAP}\n)\n") == Problem.parse("blocksworld", SWAP)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: it is empty"),
        ("nonsense", "line 1: nonsense stands outside of brackets"),
        ("(define (problem p)", "line 1: this bracket is not closed"),
        (SWAP.replace("on-table", "under"), r"line 2: it has no under: blocksworld"),
    ],
)
def test_what_is_no_problem_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Problem.parse("blocksworld", text)


def test_plans_do_not_depend_on_hash_seeds() -> None:
    script = """
from agentrm.environments.base import Task
from agentrm.environments.pddl.engine import Problem
from agentrm.environments.pddl.generators import generated_problem
for kind in ("gripper", "blocksworld", "barman", "tyreworld"):
    print(Problem.parse(kind, generated_problem(Task("pddl", kind, "train", 5))).plan(30))
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0].count("[(") == 4
    assert outputs[0] == outputs[1]

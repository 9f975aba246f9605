"""Problems as people write them: what is the same in other writing, and what is refused by line and reason."""

import pytest

pytest.importorskip("pyperplan")
from agentrm.environments.pddl.engine import Problem

BLOCKS = """(define (problem example)
(:domain blocksworld-4ops)
(:objects b1 b2)
(:init (arm-empty) (on-table b1) (on-table b2) (clear b1) (clear b2))
(:goal (and (on b1 b2))))
"""
GRIPPER = """(define (problem example) (:domain gripper-strips) (:objects a b ball1 left)
(:init (room a) (room b) (ball ball1) (gripper left) (at-robby a) (free left) (at ball1 a)) (:goal (at ball1 b)))"""
SHOT = """(define (problem example) (:domain barman)
(:objects left right - hand s1 - shot i1 - ingredient d1 - dispenser shaker1 - shaker c1 - cocktail)
(:init (ontable s1) (clean s1) (empty s1) (handempty left) (handempty right) (dispenses d1 i1))
(:goal (and (contains s1 i1))))"""


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("(:init", "; 1) two blocks\n(:init ; (and ; more ((\n"),
        lambda text: text + "; the end )",
        lambda text: text + ")",
        lambda text: text.upper(),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r").replace(" ", "\t"),
        lambda text: text.replace("(:objects", "(:requirements :strips :typing)(:objects"),
        lambda text: (
            text.replace("(:init", "(:init (= (total-cost) 0) (not (on b1 b2))")[:-2]
            + "(:metric minimize (total-cost)))"
        ),
        lambda text: text.replace("b1 b2)", "b1 - object b2)", 1),
        lambda text: text.replace("(and (on b1 b2))", "(and (and) (and (on b1 b2)))"),
        lambda text: text.replace("(and (on b1 b2))", "(and " * 20_000 + "(on b1 b2)" + ")" * 20_000),
        lambda text: (
            "(define (problem x)" + text[text.index("(:goal") : -3] + ")" + text[26 : text.index("(:goal")] + ")"
        ),
    ],
)
def test_the_same_problem_in_other_writing(change) -> None:
    assert change(BLOCKS) != BLOCKS
    assert Problem.parse("blocksworld", change(BLOCKS)) == Problem.parse("blocksworld", BLOCKS)


@pytest.mark.parametrize(
    ("domain", "text", "told"),
    [
        ("blocksworld", "", "line 1: it is empty"),
        ("blocksworld", "; only a comment (", "line 1: it is empty"),
        ("blocksworld", BLOCKS.rstrip()[:-1], "line 1: this bracket is not closed"),
        ("blocksworld", BLOCKS.replace("(clear b2))", "(clear b2)"), "line 1: this bracket is not closed"),
        ("blocksworld", ")" + BLOCKS, "line 1: a bracket is closed that was not opened"),
        ("blocksworld", BLOCKS + "(define)", r"line 6: \( stands behind the end of the problem"),
        ("blocksworld", BLOCKS.replace("problem", "domain"), r"line 1: \(domain is no part of a problem"),
        ("blocksworld", GRIPPER, "line 1: a problem of the domain gripper-strips, not of blocksworld-4ops"),
        ("blocksworld", BLOCKS.replace("(:goal (and (on b1 b2)))", ""), r"line 1: the problem has no \(:goal"),
        ("blocksworld", BLOCKS.replace("(:goal", "(:constraints"), r"line 5: \(:constraints is no part"),
        ("blocksworld", BLOCKS.replace("b1 b2)", "b1)", 1), "line 4: there is no object b2"),
        ("blocksworld", BLOCKS.replace("b1 b2)", "b1 b2 b#3)", 1), "line 3: b#3 is no name of an object"),
        ("blocksworld", BLOCKS.replace("b1 b2)", "b1 - block b2)", 1), "line 3: there is no type block: "),
        ("blocksworld", BLOCKS.replace("b1 b2)", "b1 b2 - )", 1), "line 3: there is no type -: "),
        ("blocksworld", BLOCKS.replace("(clear b1)", "(clean b1)"), "line 4: it has no clean: blocksworld-4ops has "),
        ("blocksworld", BLOCKS.replace("(clear b1)", "(clear b1 b2)"), r"line 4: \(clear ...\) takes 1 names"),
        ("blocksworld", BLOCKS.replace("(arm-empty)", "arm-empty"), "line 4: arm-empty stands where a fact should"),
        ("blocksworld", BLOCKS.replace("(arm-empty)", "(at 5 (arm-empty))"), "line 4: it has no at"),
        ("blocksworld", BLOCKS.replace("(on b1 b2)", "(not (on b1 b2))"), r"line 5: the goal holds \(not ...\)"),
        ("blocksworld", BLOCKS.replace("(on b1 b2)", "\n(or (on b1 b2))"), r"line 6: the goal holds \(or ...\)"),
        ("blocksworld", BLOCKS.replace("(and (", "(forall (?b) ("), r"line 5: the goal holds \(forall ...\)"),
        ("barman", SHOT.replace("s1 - shot", "s1"), r"line 3: s1 in \(ontable ...\) is of the type ingredient, not"),
        ("barman", SHOT.replace("s1 - shot", "s1 - (either shot shaker)"), "line 2: objects of several types"),
        ("barman", SHOT.replace("c1 - cocktail", "s1 - cocktail"), "line 2: s1 has another type already"),
    ],
)
def test_what_cannot_be_played_is_refused_by_line_and_reason(domain: str, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        Problem.parse(domain, text)

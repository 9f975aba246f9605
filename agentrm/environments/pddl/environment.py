"""PDDL: four classical planning domains played in words, in the manner of AgentBoard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments import agentboard
from agentrm.environments.base import Turn
from agentrm.environments.official import OfficialData, OfficialEnvironment, Published
from agentrm.environments.pddl import DATA_VARIABLE, OFFICIAL, SOURCE
from agentrm.environments.support import digest, engine_import

if TYPE_CHECKING:
    from agentrm.environments.pddl.engine import Problem
    from agentrm.environments.pddl.language import Language

CHECK, LOOK = "check valid actions", "look around"


def _published(folder: Path, kind: str, split: str) -> Published:
    with engine_import("PDDL", "pddl"):
        from agentrm.environments.pddl.official import published_problems
    return published_problems(folder, kind)


class PDDL(OfficialEnvironment):
    """Gripper, blocksworld, barman and tyreworld; a kind is a domain, a task one problem of it.

    Tasks are generated, and belong to the split that their content hashes to. The tests are AgentBoard's 60 problems
    where the environment variable AGENTBOARD_PDDL names its folder `.../pddl_env/pddlgym/pddl` (with `gripper`,
    `blockworld`, `barman` and `tyreworld` in it), those that AGENTBOARD_DATA lists, where it is named too; some of them
    cannot be solved within `max_steps`.

    Outcome and progress are the largest share of goal facts that held at one time: of AgentBoard's problems as it
    counts them, from the first action that changed something; of generated ones from those that hold at the start.
    """

    name: ClassVar[str] = "pddl"
    engine: ClassVar[str] = "pyperplan 2.1"
    licence: ClassVar[str] = "GPL-3.0-or-later (pyperplan)"
    kinds: ClassVar[tuple[str, ...]] = tuple(OFFICIAL)
    max_steps: ClassVar[int] = 30
    official: ClassVar[tuple[OfficialData, ...]] = (
        OfficialData(DATA_VARIABLE, lambda _, split: split == "test", _published, SOURCE, (agentboard.DATA_VARIABLE,)),
    )
    snapshots: ClassVar[bool] = True
    instruction: ClassVar[str] = (
        "You act in a small world until all conditions of a goal hold at the same time. The first message says how "
        "this world works, what actions look like, what the goal is and what holds now. In an action, put the names of "
        f"things in place of the <words>. The action `{CHECK}` lists what can be done now, and `{LOOK}` says all that "
        "holds; both change nothing."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            "You have one arm and stack blocks on each other and on a table. With an empty arm you can pick up a clear "
            "block from the table, or unstack a clear block from another; a block that you hold you can put down on "
            "the table or stack on a clear block. Actions: pickup <block>; putdown <block>; stack <block> on <block>; "
            "unstack <block> from <block>.\nGoal: b1 is on b2.\nNow: Your arm is empty. b1 is clear. b3 is clear. b3 "
            "is on b2. b1 is on the table. b2 is on the table.",
            "b3 covers b2, so I first take it away.",
            "unstack b3 from b2",
        ),
        Turn(
            "b1 is clear. b2 is clear. You are holding b3. b1 is on the table. b2 is on the table.",
            "My arm must be empty before it can take b1.",
            "putdown b3",
        ),
        Turn(
            "Your arm is empty. b1 is clear. b2 is clear. b3 is clear. b1 is on the table. b2 is on the table. b3 is "
            "on the table.",
            "Now I can take b1.",
            "pickup b1",
        ),
        Turn(
            "b2 is clear. b3 is clear. You are holding b1. b2 is on the table. b3 is on the table.",
            "b2 is clear, and b1 belongs on it.",
            "stack b1 on b2",
        ),
    )

    def __init__(self) -> None:
        with engine_import("PDDL", "pddl"):
            from agentrm.environments.pddl import language as pddl_language
        self._languages = pddl_language.LANGUAGES
        self._task: Task | None = None
        self._problem: Problem | None = None
        self._state: frozenset[int] = frozenset()
        self._reached = self._held = 0

    def reset(self, task: Task) -> Observation:
        self.check(task)
        entry = self.entry(task)
        self._start(task, _problem(task, entry.path if entry else None))
        language, problem = self._language, self._live
        goal = " ".join(language.fact(problem.facts[number]) for number in sorted(problem.goals))
        return Observation(
            f"{language.rules} Actions: {'; '.join(language.actions.values())}.\nGoal: {goal}\nNow: {self._look()}"
        )

    def step(self, action: str) -> Observation:
        typed = " ".join(action.lower().split())
        if CHECK in typed:
            return Observation(f"Valid actions are: {', '.join(self.admissible_actions())}.")
        if LOOK in typed:
            return Observation(self._look())
        language, problem = self._language, self._live
        atom = language.understand(typed, problem.objects, problem.arity)
        if isinstance(atom, str):
            return Observation(f"{atom} You can also {CHECK}.")
        operator = problem.operators.get(atom)
        if operator is None:
            return Observation(f"That would do nothing with these objects. Its form is: {language.actions[atom[0]]}.")
        if missing := operator.preconditions - self._state:
            return Observation(f"You cannot do that now. It needs: {self._say(missing)}")
        before, self._state = self._state, operator.apply(self._state)
        self._reached = max(self._reached, len(problem.goals & self._state))
        text = self._say(self._state - before if language.shows_changes else self._state) or "Nothing changes."
        done = problem.goals <= self._state
        return Observation(f"{text} The goal is satisfied." if done else text, done)

    def grade(self) -> Grade:
        problem = self._live
        progress = (self._reached - self._held) / (len(problem.goals) - self._held)
        return Grade(outcome=progress, progress=progress, success=problem.goals <= self._state)

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        self._start(self._task, self._live)
        return [self._language.action(atom) for atom in self._live.plan(self.max_steps)]

    def thought(self, plan: Sequence[str]) -> str:
        """All that holds was read, so that the thought names the goal that comes next."""
        problem, language = self._live, self._language
        operators = {language.action(atom): operator for atom, operator in problem.operators.items()}
        state, missing = self._state, problem.goals - self._state
        for number, action in enumerate(plan):
            if action not in operators:
                return ""
            state = operators[action].apply(state)
            # What is reached on the way and given up again is no aim.
            if (reached := missing & state) and all(goal in state for goal in problem.goals & self._state):
                aim = self._say(sorted(reached)[:1]).rstrip(".")
                left = f"{len(missing)} conditions of the goal are open. " if len(missing) > 1 else ""
                return f"{left}Next I want this: {aim}. {'For that I first' if number else 'Now I'} {plan[0]}."
        return f"The goal takes a detour: I {plan[0]}."

    def admissible_actions(self) -> list[str]:
        operators = self._live.operators.items()
        possible = [self._language.action(atom) for atom, operator in operators if operator.applicable(self._state)]
        return [*possible, CHECK, LOOK]

    def fingerprint(self) -> str:
        facts = [self._live.facts[number] for number in sorted(self._state)]
        return digest(self._task, self._live.statics, facts, self._reached)

    def snapshot(self) -> Any:
        return self._task, self._problem, self._state, self._reached, self._held

    def restore(self, state: Any) -> None:
        self._task, self._problem, self._state, self._reached, self._held = state

    def close(self) -> None:
        self._problem = None

    def _start(self, task: Task, problem: Problem) -> None:
        self._task, self._problem, self._state = task, problem, problem.initial
        self._held = self._reached = 0 if task.data else len(problem.goals & problem.initial)

    def _look(self) -> str:
        """All that holds, with what never changes."""
        statics = [self._language.fact(atom) for atom in self._live.statics]
        return " ".join([*statics, self._say(self._state)])

    def _say(self, facts: Iterable[int]) -> str:
        return " ".join(self._language.fact(self._live.facts[number]) for number in sorted(facts))

    @property
    def _language(self) -> Language:
        assert self._task is not None
        return self._languages[self._task.kind]

    @property
    def _live(self) -> Problem:
        assert self._problem is not None, "reset(task) comes first"
        return self._problem


@lru_cache(maxsize=256)
def _problem(task: Task, path: Path | None) -> Problem:
    """The grounded problem of a task: of an official file, or generated."""
    from agentrm.environments.pddl.engine import Problem
    from agentrm.environments.pddl.generators import generated_problem
    from agentrm.environments.pddl.official import read_problem_file

    return read_problem_file(task.kind, path) if path else Problem.parse(task.kind, generated_problem(task))

"""STRIPS problems by pyperplan: its parser reads domains, its grounder makes states and operators, its search plans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import inf
from typing import Any

from pyperplan import search
from pyperplan.grounding import ground
from pyperplan.heuristics.relaxation import hFFHeuristic
from pyperplan.pddl.parser import Parser
from pyperplan.task import Operator
from pyperplan.task import Task as PlanningTask

from agentrm.environments.pddl.reader import read_problem

EVALUATIONS = 600
WEIGHT = 3

State = frozenset[int]
Atom = tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """A grounded problem. Facts are numbered in the order of their names, so that nothing depends on hash seeds.

    `facts` maps a number to (predicate, *objects); `statics` are the facts that no action changes; `operators` are
    those that change something, by (action, *objects); `arity` counts the objects of each action.
    """

    facts: tuple[Atom, ...]
    statics: tuple[Atom, ...]
    initial: State
    goals: State
    operators: dict[Atom, Operator]
    objects: frozenset[str]
    arity: dict[str, int]

    @classmethod
    def parse(cls, domain: str, text: str) -> Problem:
        """Read a problem of one of our domains. Raises ValueError, with the line, for text that is no such problem."""
        problem = read_problem(text, _domain(domain))
        task = ground(problem, remove_statics_from_initial_state=False, remove_irrelevant_operators=False)
        effective = [operator for operator in task.operators if operator.add_effects or operator.del_effects]
        changing = task.goals.union(
            *(operator.preconditions | operator.add_effects | operator.del_effects for operator in effective)
        )
        names = sorted(changing)
        numbers = {name: number for number, name in enumerate(names)}

        def numbered(facts: Iterable[str]) -> State:
            return frozenset(sorted(numbers[fact] for fact in facts))

        operators = {
            _atom(operator.name): Operator(
                operator.name,
                numbered(operator.preconditions),
                numbered(operator.add_effects),
                numbered(operator.del_effects),
            )
            for operator in sorted(effective, key=lambda operator: operator.name)
        }
        return cls(
            facts=tuple(map(_atom, names)),
            statics=tuple(map(_atom, sorted(task.initial_state - changing))),
            initial=numbered(task.initial_state & changing),
            goals=numbered(task.goals),
            operators=operators,
            objects=frozenset(problem.objects),
            arity={action.name: len(action.signature) for action in problem.domain.actions.values()},
        )

    def plan(self, limit: int) -> list[Atom]:
        """A plan of at most `limit` actions, or [] where none was found; deterministic, not always shortest.

        All goals at once, by the actions of relaxed plans alone, is fast and solves nearly all problems; else the goals
        are reached one after another, in one order and then the other, each time keeping those before it.
        """
        goals = sorted(self.goals)
        for agenda in ([self.goals], _growing(goals), _growing(goals[::-1])):
            plan = self._follow(agenda)
            if plan and len(plan) <= limit:
                return [_atom(operator.name) for operator in plan]
        return []

    def _follow(self, agenda: list[State]) -> list[Operator] | None:
        """A plan that reaches one set of goals after the other; None where one of them was not reached."""
        plan: list[Operator] = []
        state = self.initial
        for goals in agenda:
            part = self._search(state, goals, only_relaxed=True)
            if part is None and len(agenda) > 1:
                part = self._search(state, goals, only_relaxed=False)
            if part is None:
                return None
            for operator in part:
                state = operator.apply(state)
            plan += part
        return plan

    def _search(self, state: State, goals: State, only_relaxed: bool) -> list[Operator] | None:
        """Weighted A* with the FF heuristic; None where no plan was found within `EVALUATIONS` states."""
        task = PlanningTask("", range(len(self.facts)), state, goals, list(self.operators.values()))
        try:
            return search.weighted_astar_search(task, _BoundedFF(task), WEIGHT, only_relaxed)
        except _GivenUpError:
            return None


def _growing(goals: list[int]) -> list[State]:
    """The first goal, the first two, and so on."""
    return [frozenset(goals[: count + 1]) for count in range(len(goals))]


class _GivenUpError(Exception):
    """The search took too long."""


class _BoundedFF(hFFHeuristic):
    """The FF heuristic, which gives up after a number of states: the search has no bound of its own."""

    def __init__(self, task: PlanningTask) -> None:
        super().__init__(task)
        self._left = EVALUATIONS

    def __call__(self, node: Any) -> float:
        self._left -= 1
        if self._left < 0:
            raise _GivenUpError
        return super().__call__(node)

    def calc_h_with_plan(self, node: Any) -> tuple[float, Any]:
        value = super().calc_h_with_plan(node)
        return value if isinstance(value, tuple) else (inf, None)


@cache
def _domain(name: str) -> Any:
    parser = Parser(None)
    parser.domInput = files("agentrm.environments.pddl").joinpath(f"domains/{name}.pddl").read_text()
    return parser.parse_domain(read_from_file=False)


def _atom(name: str) -> Atom:
    """(predicate or action, *objects) of `(on b1 b2)`."""
    return tuple(name.strip("()").split())

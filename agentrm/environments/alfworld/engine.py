"""TextWorld's PDDL engine for ALFWorld: faster, and able to return to an earlier state; game logic is untouched."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import alfworld
import fast_downward
import textworld
from alfworld.agents.utils.misc import Demangler
from textworld.core import GameState
from textworld.envs.pddl import PddlEnv, textgen
from textworld.envs.pddl import logic as pddl_logic
from textworld.logic import Rule

from agentrm.environments.alfworld.games import Game

_DATA = Path(alfworld.__file__).parent / "data"
_GOAL_SLOT = "UNKNOWN GOAL"
TRANSLATIONS = 128
_idle_libraries: list[Any] = []
Operators = tuple[tuple[int, int], ...]


@lru_cache(maxsize=1)
def _logic() -> Any:
    """The wheel's domain and grammar, parsed once; the goal's words are put in when a game is shown."""
    return pddl_logic.GameLogic((_DATA / "alfred.pddl").read_text(), (_DATA / "alfred.twl2").read_text())


class Engine(PddlEnv):
    """One live game. `operators` are those executed so far, as (id, number of effects), enough to come back to it."""

    def __init__(self) -> None:
        # Not PddlEnv's own: that loads one more copy of the library, and to unload one crashes the process later.
        textworld.Environment.__init__(self, textworld.EnvInfos(won=True, admissible_commands=True))
        self.downward_lib: Any = _idle_libraries.pop() if _idle_libraries else fast_downward.load_lib()
        self._game: Game | None = None
        self.operators: Operators = ()

    def start(self, game: Game) -> Any:
        """Load a game, unless it is loaded already, and reset it; returns the first state."""
        if game != self._game:
            self._game = None
            self._game_data, self._logic = {"pddl_problem": game.problem}, _logic()
            self._pddl_state = pddl_logic.PddlState(self.downward_lib, game.problem, self._logic)
            self._entity_infos = self._get_entity_infos()
            demangler = Demangler(game_infos=self._entity_infos)
            for info in self._entity_infos.values():
                info.name = demangler.demangle_alfred_name(info.id)
            self._game = game
        state = self.reset()
        self.operators = ()
        state.feedback = state.feedback.replace(_GOAL_SLOT, game.goal)
        return state

    def step(self, command: str) -> tuple[Any, float, bool]:
        before = self._pddl_state._operators
        result = super().step(command)
        if self._last_action is not None:
            number = self._last_action.id
            self.operators += ((number, before[number].nb_effect_atoms),)
        return result

    def restore(self, game: Game, operators: Operators) -> None:
        """Return to the state after `operators`: they are applied again, without any text in between."""
        self.start(game)
        state = self._pddl_state
        for number, effects in operators:
            atoms = (pddl_logic.Atom * effects)()
            state.downward_lib.apply_operator(number, atoms)
            for atom in atoms:
                fact = atom.get_fact(state.name2type)
                state.remove_fact(fact.negate())
                state.add_fact(fact)
        self.operators = operators
        self.state = GameState()
        self._last_action = None
        self._gather_infos()

    @property
    def names(self) -> dict[str, str]:
        """The shown name of everything, by its lower-case id."""
        return {identifier.lower(): info.name.strip() for identifier, info in self._entity_infos.items()}

    def facts(self, predicates: Iterable[str]) -> list[tuple[str, ...]]:
        """The facts of these predicates that hold now, as (predicate, *ids)."""
        wanted = frozenset(predicates)
        return [(fact.name, *fact.names) for fact in self._pddl_state.facts if fact.name in wanted]

    def close(self) -> None:
        if self.downward_lib is not None:
            self.downward_lib.cleanup()
            _idle_libraries.append(self.downward_lib)
            self.downward_lib = None


def speed_up() -> Callable[[], None]:
    """Cache TextWorld's translations and parses in this process, and return a function that undoes it.

    As shipped, each reset translates the problem twice and each step parses every command template again and copies
    the state deeply; trajectories are the same without that. The optimised translation only serves TextWorld's
    planner, which nothing here uses.
    """
    parse, query = textgen._parse_and_convert, Rule.parse_conjunctive_query
    translate = pddl_logic.fast_downward.pddl2sas
    originals = textgen.copy_context, textgen.Symbol.copy
    parse_once = lru_cache(maxsize=4096)(parse)

    @lru_cache(maxsize=TRANSLATIONS)
    def translate_once(domain: str, problem: str) -> tuple[Any, str]:
        arguments = sys.argv
        try:
            return translate(domain, problem)
        finally:
            sys.argv = arguments  # the translator replaces them

    def copy_context(context: dict[str, Any]) -> dict[str, Any]:
        # Both maps are only ever added to; what they hold is never changed.
        return context | {"variables": dict(context["variables"]), "mapping": dict(context["mapping"])}

    def copy_symbol(symbol: Any, context: dict[str, Any]) -> Any:
        duplicate = copy.copy(symbol)
        duplicate.context = copy_context(context)
        return duplicate

    def parse_and_copy(text: str, rule_name: str = "symbols", **_: Any) -> list[Any]:
        return [copy.copy(symbol) for symbol in parse_once(text, rule_name=rule_name)]

    def undo() -> None:
        textgen._parse_and_convert, Rule.parse_conjunctive_query = parse, query
        textgen.copy_context, textgen.Symbol.copy = originals
        pddl_logic.fast_downward.pddl2sas = translate

    textgen._parse_and_convert = parse_and_copy
    Rule.parse_conjunctive_query = staticmethod(lru_cache(maxsize=4096)(query))
    textgen.copy_context, textgen.Symbol.copy = copy_context, copy_symbol
    pddl_logic.fast_downward.pddl2sas = lambda domain, problem, **_: translate_once(domain, problem)
    return undo

"""The searches by the names that a configuration uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from agentrm.config.schema import Aggregate, Evaluate, Method, Selection
from agentrm.search.beam import Beam
from agentrm.search.best_of_n import BestOfN, JudgedBestOfN
from agentrm.search.dvts import DVTS
from agentrm.search.greedy import Greedy
from agentrm.search.guided_mcts import GuidedMCTS
from agentrm.search.lookahead import Lookahead
from agentrm.search.sampling import Sample
from agentrm.search.stepwise import Stepwise
from agentrm.search.strategy import Strategy
from agentrm.search.voting import Majority, Weighted

_MADE: Mapping[Method, Callable[[Evaluate], Strategy]] = {
    Method.greedy: lambda settings: Greedy(),
    Method.sample: lambda settings: Sample(),
    Method.best_of_n: lambda settings: BestOfN(settings.n),
    Method.weighted: lambda settings: Weighted(settings.n),
    Method.majority: lambda settings: Majority(settings.n),
    Method.judge: lambda settings: JudgedBestOfN(settings.n),
    Method.beam: lambda settings: Beam(settings.width, settings.branches, settings.score),
    # As many actions per step as beam search samples.
    Method.stepwise: lambda settings: Stepwise(settings.width * settings.branches, settings.score),
    Method.dvts: lambda settings: DVTS(settings.width, settings.branches),
    Method.lookahead: lambda settings: Lookahead(settings.width, settings.branches, settings.lookahead),
    Method.mcts_ucb: lambda settings: _mcts(Selection.ucb, settings),
    Method.mcts_puct: lambda settings: _mcts(Selection.puct, settings),
}


def strategy(method: Method, settings: Evaluate) -> Strategy:
    """The search of a name with the numbers of the settings."""
    return _MADE[method](settings)


def conditions(settings: Evaluate) -> str:
    """What beside a search's own numbers bounds or steers it, to be put behind its label; "" with the defaults."""
    parts = [settings.aggregate.value] if settings.aggregate is not Aggregate.last else []
    budgets = (
        ("tokens", settings.max_tokens),
        ("steps", settings.max_steps),
        ("scores", settings.max_scores),
        ("seconds", settings.max_seconds),
    )
    parts += [f"{budget:g} {name}" for name, budget in budgets if budget is not None]
    parts += [] if settings.gate is None else [f"gate {settings.gate:g}"]
    return "".join(f", {part}" for part in parts)


def unlimited(settings: Evaluate) -> Evaluate:
    """The settings without budgets and gate."""
    return replace(settings, max_tokens=None, max_steps=None, max_scores=None, max_seconds=None, gate=None)


def _mcts(selection: Selection, settings: Evaluate) -> Strategy:
    return GuidedMCTS(selection, settings.iterations, settings.width, settings.branches)

"""A search shown in the terminal while it runs: each round's candidates, their values and what was kept."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentrm.core.task import Grade
from agentrm.search.result import COMPLETE, GATE, Result, Round


class Live:
    """Prints rounds as they end; give it to `search` as `watch`. Nodes of the tree are named by their numbers."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rounds = 0

    def __call__(self, over: Round) -> None:
        """One round: kept states are marked; those that stay from earlier rounds are named below."""
        self._rounds += 1
        cost = over.cost
        table = Table("", "state", "from", "value", "action", "observation", box=box.SIMPLE_HEAD, expand=True)
        table.title = (
            f"round {self._rounds}: {len(over.candidates)} candidates, so far {cost.policy_tokens:,} policy tokens, "
            f"{cost.environment_steps:,} environment steps, {cost.scored_states:,} scored states"
        )
        table.title_justify = "left"
        for column, share in zip(table.columns[-2:], (2, 3), strict=True):
            column.ratio, column.no_wrap, column.overflow = share, True, "ellipsis"
        for candidate in over.candidates:
            table.add_row(
                "✓" if candidate.kept else "",
                str(candidate.index),
                str(candidate.parent),
                _value(candidate.value),
                escape(candidate.action),
                escape(" ".join(candidate.observation.split())) + (" [bold](ended)[/bold]" if candidate.ended else ""),
                style="" if candidate.kept else "dim",
            )
        self._console.print(table)
        if over.stay:
            self._console.print(f"stays: state {', '.join(map(str, over.stay))}")

    def result(self, result: Result) -> None:
        """What was chosen, whether the episode was finished, and what it cost."""
        console, cost = self._console, result.cost
        console.rule("chosen")
        for step in result.state.steps:
            console.print(f"> {step.proposal.action}", style="bold", markup=False)
            console.print(step.observation, markup=False)
        finished = "the environment ended the episode" if result.finished else "the episode is not finished"
        ended = {COMPLETE: "the search came to its end", GATE: "the gate stopped the search"}
        why = ended.get(result.ended_by, f"the budget of {result.ended_by} cut the search")
        console.print(f"\n{len(result.state.steps)} actions, value {_value(result.score)}; {finished}; {why}")
        if refused := result.tree.engine_errors:
            console.print(f"the policy's model refused to go on in {refused:,} states")
        console.print(
            f"{cost.policy_tokens:,} policy tokens, {cost.environment_steps:,} environment steps, "
            f"{cost.scored_states:,} scored states (of their tokens {cost.reward_tokens:,} computed, "
            f"{cost.cached_tokens:,} cached), "
            f"{cost.seconds:.1f} s; {len(result.tree.nodes):,} states in the tree"
        )

    def truth(self, grade: Grade) -> None:
        """The true reward, once the search is over."""
        self._console.rule("the truth, which the search could not see")
        solved = "solved" if grade.success else "not solved"
        self._console.print(f"{solved}: outcome {grade.outcome:.2f}, progress {grade.progress:.2f}")


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

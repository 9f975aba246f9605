"""What a search shows while it runs, and that the truth comes last."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

from rich.console import Console

from agentrm.search.beam import Beam
from agentrm.search.strategy import search
from jobs.terminal.live import Live
from tests.agentrm.search.test_strategies import SETTINGS, beam_script
from tests.agentrm.search.toy import BARE, TASK, ToyGrader, ToySessions, TrueValue


def shown(**limits: int) -> list[str]:
    text = io.StringIO()
    live = Live(Console(file=text, width=120, highlight=False))

    async def play() -> None:
        settings = replace(SETTINGS, **limits)
        result = await search(Beam(1, 2), TASK, beam_script(), ToySessions(), TrueValue(), settings, BARE, live)
        live.result(result)
        live.truth(await ToyGrader().grade(TASK, result.state.actions))

    asyncio.run(play())
    return [" ".join(line.split()) for line in text.getvalue().splitlines()]


def test_every_candidate_with_its_value_and_what_was_kept() -> None:
    lines = shown()
    assert [line for line in lines if line.startswith("round")] == [
        "round 1: 2 candidates, so far 2 policy tokens, 2 environment steps, 2 scored states",
        "round 2: 1 candidates, so far 4 policy tokens, 3 environment steps, 3 scored states",
        "round 3: 2 candidates, so far 6 policy tokens, 5 environment steps, 5 scored states",
    ]
    assert "✓ 2 0 1.000 right after 1" in lines and "1 0 0.429 left after 1" in lines
    assert "✓ 4 3 0.714 right after 3 (ended)" in lines
    assert "3 actions, value 0.714; the environment ended the episode; the search came to its end" in lines
    truth = next(i for i, line in enumerate(lines) if "the truth" in line)
    assert lines[truth + 1 :] == ["not solved: outcome 0.71, progress 0.71"]
    assert not [line for line in lines[:truth] if "outcome" in line]


def test_a_cut_search_says_so() -> None:
    lines = shown(max_steps=3)
    assert "2 actions, value 0.714; the episode is not finished; the budget of steps cut the search" in lines

"""Figures whose methods have the longest of names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import pytest

from agentrm.reports.plots import headline_bars, outcome_against_tokens, outcome_bars

LONGEST = "best of N, tokens of stepwise of 9, before acting"
METHODS = ("greedy", "stepwise of 9, before acting", LONGEST, "oracle best of 5")
ROWS = [
    {"method": name, "outcome": 0.5, "outcome_low": 0.4, "outcome_high": 0.6, "tasks": 24, "policy_tokens": 100.0 * i}
    for i, name in enumerate(METHODS, start=1)
]


@pytest.mark.parametrize("draw", [outcome_bars, headline_bars, outcome_against_tokens])
def test_a_long_name_leaves_its_panel_room(draw: Callable[..., str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw(dict.fromkeys(("held-in", "held-out kinds", "held-out environments"), ROWS))
    texts = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawn))
    assert LONGEST in texts

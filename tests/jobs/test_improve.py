"""When a reward model may replace another one."""

from __future__ import annotations

from typing import Any

import pytest

from agentrm.config.loading import load
from agentrm.config.schema import End
from agentrm.core.errors import UserError
from jobs.improve import _config, why_worse

BOTH = [End.state, End.action]


def lead(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "trees": 9}


BETTER, WORSE = lead(0.1, -0.1, 0.3), lead(-0.1, -0.3, 0.1)


@pytest.mark.parametrize(
    ("state", "action", "told"),
    [
        ({"brier": BETTER}, {"brier": BETTER, "siblings": None}, ""),
        ({"brier": lead(0, 0, 0)}, {"brier": lead(0, 0, 0)}, ""),
        # Where actions are valued, they decide; a difference elsewhere may be chance.
        ({"brier": WORSE}, {"brier": BETTER, "pairwise": WORSE}, ""),
        ({"brier": BETTER}, {"brier": WORSE}, "brier of actions is worse by 0.100"),
        ({"brier": BETTER}, {"brier": BETTER, "final": lead(-0.2, -0.3, -0.1)}, "final of actions is worse by 0.200"),
        ({"brier": lead(-0.2, -0.3, -0.1)}, {"brier": BETTER}, "brier of states is worse by 0.200 [0.100, 0.300]"),
    ],
)
def test_a_model_is_taken_where_it_is_not_worse(state: Any, action: Any, told: str) -> None:
    worse = why_worse({"state": state, "action": action}, BOTH)
    assert worse.startswith(told) and bool(worse) == bool(told)


def test_without_values_of_actions_those_of_states_decide() -> None:
    assert why_worse({"state": {"brier": BETTER}}, [End.state]) == ""
    assert "states" in why_worse({"state": {"brier": WORSE}}, [End.state])
    with pytest.raises(UserError, match="too few held-out trees"):
        why_worse({"state": {"brier": None}}, [End.state])


def test_a_round_learns_from_what_is_recorded_whatever_the_run_names() -> None:
    config = load(
        "quickstart",
        ["train.labels.environments=[webshop,webshop.beauty_small]", "train.labels.weights=[3,2]", "reuse=elsewhere"],
    )
    made = _config(config, "runs/round")
    assert made.train.labels.environments == ["webshop", "webshop.beauty_small", "gateway"]
    assert made.train.labels.weights == [3, 2, 1]
    assert made.run == "runs/round" and made.reuse is None
    assert made.train.labels.holds("gateway", "gateway.recorded")

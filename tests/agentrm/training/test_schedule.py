from __future__ import annotations

import pytest

from agentrm.training.schedule import checkpoint_steps, learning_rate


def test_warm_up_is_linear_and_the_cosine_ends_at_zero() -> None:
    rates = [learning_rate(step, 12, 1.0, 1 / 6) for step in range(13)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[7] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0.0)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    assert learning_rate(0, 10, 3e-4, 0.0) == 3e-4


def test_checkpoints_divide_the_fit_evenly_and_leave_out_its_end() -> None:
    assert checkpoint_steps(40, 3) == {10, 20, 30}
    assert checkpoint_steps(2, 3) == {1}
    assert checkpoint_steps(1, 3) == set()

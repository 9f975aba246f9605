from __future__ import annotations

import numpy as np
import pytest

from agentrm.core.errors import UserError
from agentrm.training.packing import plan_epoch


def test_every_sequence_comes_once_and_every_step_is_full() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 157)
    plan = plan_epoch(lengths, budget=256, ranks=3, accumulate=2, seed=1, epoch=0)
    assert all(len(step) == 6 for step in plan)
    assert sorted(index for step in plan for batch in step for index in batch) == list(range(157))


def test_a_micro_batch_stays_within_the_budget_padding_included() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 157)
    for step in plan_epoch(lengths, budget=256, ranks=2, accumulate=1, seed=1, epoch=0):
        assert all(len(batch) * lengths[batch].max() <= 256 for batch in step)


def test_a_sequence_longer_than_the_budget_is_alone() -> None:
    plan = plan_epoch(np.array([500, 10, 10]), budget=40, ranks=1, accumulate=1, seed=0, epoch=0)
    assert sorted(sorted(batch) for step in plan for batch in step) == [[0], [1, 2]]


@pytest.mark.parametrize("count", range(6, 13))
def test_a_step_is_filled_with_empty_micro_batches_where_none_can_be_halved(count: int) -> None:
    plan = plan_epoch(np.full(count, 30), budget=40, ranks=2, accumulate=3, seed=0, epoch=0)
    assert all(len(step) == 6 and any(step) for step in plan)
    assert sorted(batch for step in plan for batch in step if batch) == [[index] for index in range(count)]
    assert sum(map(len, plan)) - count < 6


def test_the_plan_depends_on_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 60)

    def plan(seed: int, epoch: int) -> list[list[list[int]]]:
        return plan_epoch(lengths, 256, 2, 1, seed, epoch)

    assert plan(3, 1) == plan(3, 1)
    assert plan(3, 1) != plan(3, 2)
    assert plan(3, 1) != plan(4, 1)
    assert len({len(plan(seed, epoch)) for seed in range(5) for epoch in range(5)}) == 1


def test_what_the_workers_do_at_a_time_is_of_like_size_but_for_the_remainder() -> None:
    lengths = np.random.default_rng(0).integers(20, 400, 400)
    uneven = 0
    for step in plan_epoch(lengths, 4096, 2, 1, 0, 0):
        sizes = [len(batch) * lengths[batch].max() for batch in step]
        uneven += max(sizes) > 1.2 * min(sizes)
    assert uneven <= 1


def test_the_micro_batches_that_a_step_accumulates_are_of_unlike_lengths() -> None:
    lengths = np.random.default_rng(0).integers(20, 400, 400)
    steps = plan_epoch(lengths, 1024, 2, 4, 0, 0)
    spread = [np.ptp([lengths[batch].mean() for batch in step[::2]]) for step in steps]
    assert np.mean(spread) > 100


def test_fewer_sequences_than_workers_is_named() -> None:
    with pytest.raises(UserError, match=r"3 training sequences, fewer than workers \* accumulate = 4"):
        plan_epoch(np.array([5, 5, 5]), 100, 2, 2, 0, 0)


def test_units_stay_together_within_the_budget() -> None:
    random = np.random.default_rng(0)
    lengths, units = random.integers(1, 100, 157), random.integers(0, 60, 157)
    units = np.unique(units, return_inverse=True)[1]

    def plan(epoch: int) -> list[list[list[int]]]:
        return plan_epoch(lengths, budget=512, ranks=2, accumulate=2, seed=1, epoch=epoch, units=units)

    steps = plan(0)
    assert sorted(index for step in steps for batch in step for index in batch) == list(range(157))
    for batch in (batch for step in steps for batch in step):
        own = set(units[batch].tolist())
        assert set(np.flatnonzero(np.isin(units, list(own)))) == set(batch)
        assert len(own) <= 1 or len(batch) * lengths[batch].max() <= 512
    # Units of one length differ in rows, and yet every epoch has as many steps.
    assert len({len(plan(epoch)) for epoch in range(20)}) == 1 and plan(0) != plan(1)
    assert len({len(plan_epoch(np.full(157, 30), 300, 1, 1, 0, epoch, units)) for epoch in range(20)}) == 1


def test_single_units_are_no_units() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 60)
    assert plan_epoch(lengths, 256, 2, 1, 3, 1, np.arange(60)) == plan_epoch(lengths, 256, 2, 1, 3, 1)
    with pytest.raises(UserError, match=r"3 training groups of sequences with pairs, fewer than"):
        plan_epoch(np.full(9, 5), 100, 2, 2, 0, 0, np.arange(9) // 3)

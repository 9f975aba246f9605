"""What `agentrm environments --measure` measures, on an environment whose figures are known."""

import pytest

from agentrm.environments.catalogue import describe, describe_measured
from agentrm.environments.measure import TASKS, chosen_tasks, measure
from agentrm.environments.registry import environment_class
from jobs.terminal.environments import environment_table

pytestmark = pytest.mark.usefixtures("tricky")


def test_an_environment_whose_costs_are_known() -> None:
    measured = measure("costly")
    assert measured["measured_tasks"] == TASKS
    assert measured["oracle_success"] == 0.5
    # A busy machine only takes longer.
    assert 20 <= measured["first_reset_ms"] < 200
    assert 20 <= measured["reset_ms"] < 200
    assert 5 <= measured["step_ms"] < measured["reset_ms"]
    assert 100_000 <= measured["session_bytes"] < 200_000


def test_tasks_are_of_all_kinds_or_of_kinds_evenly_chosen() -> None:
    few, many = (chosen_tasks(environment_class(name)) for name in ("costly", "babyai"))
    assert [(task.kind, task.index) for task in few] == [("count", index) for index in range(TASKS)]
    kinds = environment_class("babyai").kinds
    assert len({task.kind for task in many}) == TASKS
    assert [task.kind for task in many] == sorted((task.kind for task in many), key=kinds.index)
    assert {task.index for task in many} == {0}
    assert {task.split for task in few + many} == {"test"}


def test_an_environment_is_measured_only_where_that_is_asked_for() -> None:
    plain, measured = describe("costly"), describe_measured("costly")
    assert "step_ms" not in plain
    assert plain["restore"] == "replay"
    assert plain.items() <= measured.items()
    assert [str(column.header) for column in environment_table([plain]).columns][-1] == "installed"
    assert list(environment_table([measured]).columns[-1].cells) == ["12 of 24"]

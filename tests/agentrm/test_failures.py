"""Failed attempts outlive a run, and end."""

from pathlib import Path

from agentrm.core.task import Task
from agentrm.failures import ATTEMPTS, Failures

TASK, OTHER = Task("babyai+walk", "goto_obj", "test", 0), Task("pddl", "barman", "test", 1, data="official-0c5e17d2")


def test_a_task_is_given_up_after_the_attempts_of_all_runs(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "failures"
    for attempt in range(ATTEMPTS):
        failures = Failures(folder)
        assert failures.given_up == {}
        failures.record(TASK, f"crash {attempt}")
    failures.record(OTHER, "slow")
    for known in (failures, Failures(folder)):
        assert known.given_up == {TASK.id: f"crash {ATTEMPTS - 1}"}
    assert failures.told().endswith(f"failed them 3 times: crash 2; delete {folder} to try them again")

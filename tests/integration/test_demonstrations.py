"""`agentrm demonstrations` on a real local Ray: oracles play, in any wording, and what fails is counted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.data.demonstrations import read
from agentrm.environments.registry import make
from jobs import demonstrations

TINY = str(Path(__file__).with_name("tiny.yaml"))
NO_ORACLE = Task("babyai", "action_obj_door", "train", 1)


@pytest.fixture(scope="module", autouse=True)
def the_oracle_still_fails_there() -> None:
    environment = make("babyai")
    environment.reset(NO_ORACLE)
    assert environment.expert_actions() == []
    environment.close()


def test_successes_become_a_dataset_and_failures_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = "tasks.demonstrations=[{environment: babyai, kinds: [action_obj_door, key_in_box], count: 6}, "
    chosen += "{environment: babyai+walk, kinds: [key_in_box], count: 2, offset: 1}]"
    config = load(TINY, [f"run={tmp_path / 'run'}", chosen, "cluster.cpus=2"])
    counts = demonstrations.run(config)
    assert counts == {
        "babyai.action_obj_door": {"kept": 2, "no_oracle": 1},
        "babyai.key_in_box": {"kept": 3},
        "babyai+walk.key_in_box": {"kept": 2},
    }
    assert json.loads((tmp_path / "run/metrics/demonstrations.json").read_text()) == counts
    told = capsys.readouterr().err
    assert "babyai.action_obj_door: 2 demonstrations, left out: 1 no_oracle\n" in told
    assert f"7 demonstrations, 7 of 8 tasks, are in {tmp_path / 'run/demonstrations'}" in told

    found = {each.task: each.conversation.messages for each in read(tmp_path / "run" / "demonstrations")}
    assert NO_ORACLE not in found
    plain, walking = (found[Task(name, "key_in_box", "train", 1)] for name in ("babyai", "babyai+walk"))
    assert plain[1] == {"role": "assistant", "content": "go to purple box 1"}
    assert walking[1] == {"role": "assistant", "content": "walk to purple box 1"}
    assert [turn["content"].replace("walk to", "go to") for turn in walking] == [turn["content"] for turn in plain]

    started = time.monotonic()
    assert demonstrations.run(config) == counts
    assert time.monotonic() - started < 2  # no cluster was started for what is there


def test_no_success_at_all_is_an_error_and_leaves_no_dataset(tmp_path: Path) -> None:
    chosen = "tasks.demonstrations=[{environment: babyai, kinds: [action_obj_door], count: 1, offset: 1}]"
    config = load(TINY, [f"run={tmp_path / 'run'}", chosen, "cluster.cpus=2"])
    with pytest.raises(UserError, match="no task could be demonstrated"):
        demonstrations.run(config)
    assert not (tmp_path / "run" / "demonstrations").exists()

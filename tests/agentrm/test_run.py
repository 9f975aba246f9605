"""Run directories: what two configurations have in common, and stages that one run takes over from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrm import storage
from agentrm.config.loading import changed, flatten, load, resolved
from agentrm.core.errors import UserError
from agentrm.provenance import describe_data
from agentrm.run import _FREE, STAGES, RunDirectory, alike

ALL = ["demonstrations", "policy", "trees", "reward_model"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ALL),
        (["run=elsewhere", "evaluate.n=9", "hosts.workers=7", "trees.concurrency=3"], ALL),
        (["tasks.held_out_kinds=[]", "tasks.held_in=[{environment: alfworld, split: test, count: 2}]"], ALL),
        (["train.beta=0.1"], ALL[:3]),
        (["train.labels.share=0.5", "trees.iterations=5"], ALL[:2]),
        (["tasks.trees=[{environment: maze, kinds: [loops_tiny], count: 9}]"], ALL[:2]),
        (["sampling.temperature=0.5"], ALL[:2]),
        (["clone.epochs=9"], ALL[:1]),
        (["model.scratch.hidden=256"], ALL[:1]),
        (["model.action_format=bare"], []),
        (["tasks.seed=5"], []),
        (["seed=5"], []),
    ],
)
def test_which_stages_configurations_share(overrides: list[str], expected: list[str]) -> None:
    base = load("quickstart")
    assert alike(base, changed(base, overrides)) == expected


def test_every_key_belongs_to_a_stage_to_the_evaluation_or_to_no_stage() -> None:
    staged = tuple(key for stage in STAGES for key in stage.keys)
    left = [key for key in flatten(load("quickstart")) if not key.startswith((*staged, *_FREE))]
    assert left == ["tasks.held_in", "tasks.held_out_kinds", "tasks.held_out_environments"]


def test_stages_are_borrowed_with_their_metrics_and_survive_moving(tmp_path: Path) -> None:
    config = load("quickstart", [f"run={tmp_path / 'base'}"])
    base = RunDirectory.open(config)
    for folder in ("policy", "reward_model"):
        with base.writing(folder) as output:
            (output / "model").write_text(folder)
    base.write_metrics("train", {"states": 7})
    run = RunDirectory.open(changed(config, [f"run={tmp_path / 'base' / 'experiments' / 'x'}", "trees.iterations=5"]))
    run.borrow(base, ["policy", "trees", "reward_model"])
    assert run.finished("policy") and run.finished("reward_model") and not run.finished("trees")
    assert run.metrics("train") == {"states": 7}
    run.borrow(base, ["policy"])
    (tmp_path / "base").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "experiments" / "x" / "policy" / "model").read_text() == "policy"


def test_a_run_reuses_what_its_keys_do_not_change(tmp_path: Path) -> None:
    config = load("quickstart", [f"run={tmp_path / 'base'}"])
    base = RunDirectory.open(config)
    for folder, command in (("demonstrations", "demonstrations"), ("policy", "clone"), ("reward_model", "train")):
        with base.writing(folder) as output:
            (output / "model").write_text(folder)
        base.write_metrics(command, {"made": folder})
    reuse = f"reuse={tmp_path / 'base'}"
    tested = RunDirectory.open(changed(config, [f"run={tmp_path / 'tested'}", reuse, "tasks.held_out_kinds=[]"]))
    assert (tested.path("reward_model") / "model").read_text() == "reward_model"
    assert tested.metrics("train") == {"made": "reward_model"} and not tested.finished("trees")
    grown = RunDirectory.open(changed(config, [f"run={tmp_path / 'grown'}", reuse, "trees.iterations=5"]))
    assert grown.finished("demonstrations") and grown.finished("policy") and not grown.finished("reward_model")
    assert RunDirectory.open(changed(config, [f"run={tmp_path / 'grown'}", "trees.iterations=5"])).finished("policy")
    with pytest.raises(UserError, match="none is no run of AgentRM"):
        RunDirectory.open(changed(config, [f"run={tmp_path / 'other'}", f"reuse={tmp_path / 'none'}"]))


def test_an_evaluated_run_keeps_its_numbers(tmp_path: Path) -> None:
    config = load("quickstart", [f"run={tmp_path / 'run'}"])
    RunDirectory.open(config)
    other = changed(config, ["evaluate.n=9"])
    RunDirectory.open(other)
    with pytest.raises(UserError, match=r"evaluate\.n=5, not 9"):
        RunDirectory.open(other, evaluated=True)
    RunDirectory.open(changed(config, ["evaluate.concurrency=2", "hosts.workers=1"]), evaluated=True)


def test_a_run_keeps_the_data_that_it_was_made_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by the files, wherever they lie; a run of other data lends nothing."""
    pytest.importorskip("pyperplan")
    problem = (
        "(define (problem p) (:domain blocksworld-4ops) (:objects a b) (:init (arm-empty) (on-table a) (on-table b) "
        "(clear a) (clear b)) (:goal (on {goal})))"
    )
    for name, goal in (("one", "a b"), ("copy", "a b"), ("other", "b a")):
        (tmp_path / name / "blockworld").mkdir(parents=True)
        (tmp_path / name / "blockworld" / "p1.pddl").write_text(problem.format(goal=goal))
    (tmp_path / "one" / "blockworld" / "p0.pddl").write_text("; nothing")
    monkeypatch.setenv("AGENTBOARD_PDDL", str(tmp_path / "one"))
    tested = "tasks.held_in=[{environment: pddl, kinds: [blocksworld], split: test, count: 1}]"
    trained = "tasks.demonstrations=[{environment: pddl, kinds: [blocksworld], count: 1}]"
    config = load("quickstart", [f"run={tmp_path / 'run'}", tested, trained])
    run = RunDirectory.open(config)
    run.record_data()
    with run.writing("demonstrations") as output:
        (output / "x").write_text("")
    data = run.metrics("data")
    assert data["pddl"]["left_out"] == {"blockworld/p0.pddl": "line 1: it is empty"}
    assert data["pddl"]["tasks"]["blocksworld.train"] == "generated"
    # The others of the preset have official data, but none is here.
    told, _, others = describe_data(data).partition("; ")
    assert "official" not in others
    assert told.startswith("pddl official-")
    assert told.endswith(f" and generated (AGENTBOARD_PDDL={tmp_path / 'one'}, 1 entries left out)")
    monkeypatch.setenv("AGENTBOARD_PDDL", str(tmp_path / "copy"))
    RunDirectory.open(config).record_data()
    again = changed(config, [f"run={tmp_path / 'again'}", f"reuse={tmp_path / 'run'}"])
    assert RunDirectory.open(again).finished("demonstrations")
    for name in ("other", ""):
        monkeypatch.setenv("AGENTBOARD_PDDL", name and str(tmp_path / name))
        with pytest.raises(UserError, match=r"pddl\.blocksworld\.test was of data official-.*/copy\), not (off|gen)"):
            RunDirectory.open(config).record_data()
    lent = changed(config, [f"run={tmp_path / 'lent'}", f"reuse={tmp_path / 'run'}"])
    assert not RunDirectory.open(lent).finished("demonstrations")


def test_a_run_of_another_version_is_refused_and_never_misread(tmp_path: Path) -> None:
    text = resolved(load("quickstart", [f"run={tmp_path / 'run'}"]))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text.replace("train:\n", "train:\n  likelihood: 0.04\n"))
    with pytest.raises(
        UserError, match=r"config\.yaml is of another version of AgentRM, so choose .*train\.likelihood"
    ):
        RunDirectory.existing(tmp_path / "run")


def test_the_last_round_that_improved_the_reward_model_serves(tmp_path: Path) -> None:
    run = RunDirectory.open(load("quickstart", [f"run={tmp_path}"]))
    with pytest.raises(UserError, match="run `agentrm train` first"):
        run.in_service()
    (tmp_path / "reward_model").mkdir()
    for number, improved in ((1, True), (2, False), (10, True)):
        run.improvement(number).write_metrics("improve", {"improved": improved})
    (tmp_path / "improvements" / "0011" / "work").mkdir(parents=True)
    assert [storage.name(each.location) for each in run.improvements()] == ["0001", "0002", "0010", "0011"]
    assert run.in_service() == f"{tmp_path}/improvements/0010/reward_model"
    for number in ("0010", "0001"):
        storage.delete(tmp_path / "improvements" / number)
    assert run.in_service() == f"{tmp_path}/reward_model"

"""Official tasks are told from generated ones, and played where their very data is, nowhere else."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from agentrm.config.schema import TaskSet
from agentrm.config.tasks import tasks
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments import data_variables
from agentrm.environments.catalogue import describe
from agentrm.environments.hosting.process import EnvironmentProcess, value_of
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.official import Published
from agentrm.environments.registry import environment_class, find_task
from agentrm.environments.screening import Entry

pytest.importorskip("pyperplan")
BLOCKS = """(define (problem example) (:domain blocksworld-4ops) (:objects b1 b2 b3)
(:init (arm-empty) (on-table b1) (on-table b2) (on-table b3) (clear b1) (clear b2) (clear b3)) (:goal (on {goal})))"""
SETS = [TaskSet("pddl", kinds=["blocksworld"], split="test", count=1)]


def folder(path: Path, *goals: str) -> Path:
    """AgentBoard's folder with a problem for each goal."""
    (path / "blockworld").mkdir(parents=True)
    for number, goal in enumerate(goals):
        (path / "blockworld" / f"problem{number}.pddl").write_text(BLOCKS.format(goal=goal))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Official data, named by its variable."""
    found = folder(tmp_path / "here", "b1 b2", "b2 b3")
    monkeypatch.setenv("AGENTBOARD_PDDL", str(found))
    return found


def test_tasks_of_the_configuration_say_what_they_are(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (official,) = tasks(SETS, seed=5)
    identity = environment_class("pddl").data("blocksworld", "test")
    assert official.id == f"pddl.blocksworld.test.0.{identity}"
    assert identity.startswith("official-")
    (train,) = tasks([replace(SETS[0], split="train")], seed=5)
    assert train.id == "pddl.blocksworld.train.0.5"
    monkeypatch.delenv("AGENTBOARD_PDDL")
    (generated,) = tasks(SETS, seed=5)
    assert generated.id == "pddl.blocksworld.test.0.5"


def test_the_same_files_are_the_same_tasks_wherever_they_lie(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = environment_class("pddl")
    identity = cls.data("blocksworld", "test")
    for name, goals in (("copy", ("b1 b2", "b2 b3")), ("order", ("b2 b3", "b1 b2")), ("more", ("b1 b2",) * 3)):
        monkeypatch.setenv("AGENTBOARD_PDDL", str(folder(tmp_path / name, *goals)))
        assert (cls.data("blocksworld", "test") == identity) == (name == "copy")


def test_what_is_read_anew_and_what_is_stored_have_one_identity(tmp_path: Path) -> None:
    from agentrm.environments.screening import screen

    path = folder(tmp_path, "b1 b2") / "blockworld" / "problem0.pddl"
    names = {
        Published.of(*screen(tmp_path, [path], "tests.agentrm.environments.test_official:pair")).identity
        for _ in range(2)
    }
    assert len(names) == 1


def pair(path: Path) -> tuple[int, ...]:
    """A reader whose value JSON does not keep as it is."""
    return (1, 2)


def test_a_machine_plays_official_tasks_of_its_own_data_alone(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = environment_class("pddl").task("blocksworld", "test", 0)
    generated = Task("pddl", "blocksworld", "test", 0, 5)
    process = EnvironmentProcess(max_sessions=1)

    def first(each: Task) -> str:
        process.send([("observe", each, ())])
        return value_of(process.receive(60)).text

    played = first(task)
    assert "Goal: b1 is on b2." in played
    texts = [first(generated)]
    process.close()
    monkeypatch.delenv("AGENTBOARD_PDDL")
    process = EnvironmentProcess(max_sessions=1)
    texts.append(first(generated))
    with pytest.raises(UserError, match=rf"{task.id} is of official data, which {platform.node()} lacks: let AGENTB"):
        first(task)
    process.close()
    assert len(set(texts)) == 1
    monkeypatch.setenv("AGENTBOARD_PDDL", str(folder(tmp_path / "other", "b3 b1")))
    with pytest.raises(UserError, match=rf"{task.id} is of other official data than AGENTBOARD_PDDL=.*/other on "):
        SessionPool().observe(task, ())
    monkeypatch.setenv("AGENTBOARD_PDDL", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"AGENTBOARD_PDDL=.*/nowhere is no folder on "):
        SessionPool().observe(task, ())


def test_a_task_is_found_by_its_id(here: Path) -> None:
    task = environment_class("pddl").task("blocksworld", "test", 1)
    assert find_task(task.id, seed=3) == find_task("pddl.blocksworld.test.1", seed=3) == task
    assert find_task("pddl.blocksworld.test.1.7", seed=3) == Task("pddl", "blocksworld", "test", 1, 7)
    with pytest.raises(UserError, match=f"pddl's tasks here are of {task.data}"):
        find_task("pddl.blocksworld.test.1.official-00000000", seed=3)


def test_variables_for_other_places_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ALFWORLD_DATA", "WEBSHOP_DATA", "JERICHO_ROMS", "AGENTBOARD_PDDL"):
        monkeypatch.delenv(name, raising=False)
    assert data_variables() == {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JERICHO_ROMS", "roms")
    monkeypatch.setenv("WEBSHOP_DATA", "/shop")
    assert data_variables() == {"JERICHO_ROMS": str(tmp_path / "roms"), "WEBSHOP_DATA": "/shop"}


def test_a_folder_that_cannot_be_used_ends_no_list_of_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBOARD_PDDL", "/nowhere")
    row = describe("pddl")
    assert (row["installed"], row["tasks"]["train"]) == (False, 0)
    assert row["problem"].startswith("AGENTBOARD_PDDL=/nowhere is no folder on ")


def test_a_reader_that_dies_or_fails_costs_its_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentrm.environments import screening

    monkeypatch.setattr(screening, "DEADLINE_S", 1.0)
    files = [tmp_path / name for name in ("good", "exit", "hang", "deep", "better", "gone")]
    for path in files[:-1]:
        path.write_text(path.name)

    def read() -> tuple[tuple[Entry, ...], dict[str, str]]:
        return screening.screen(tmp_path, files, "tests.agentrm.environments.test_official:odd_reader")

    kept, left_out = read()
    assert [entry.value for entry in kept] == ["good", "better"]
    assert left_out == {
        "exit": "ends the program that reads it",
        "hang": "not read within 1 s",
        "deep": "cannot be read (RecursionError('too deep'))",
        "gone": "cannot be read (No such file or directory)",
    }
    (tmp_path / "log").unlink()
    files[0].write_text("changed")
    files[-1].write_text("gone")
    kept, left_out = read()
    assert [entry.value for entry in kept] == ["changed", "better", "gone"]
    # What lies in the file is known by now; the rest is tried again.
    assert (tmp_path / "log").read_text().split() == ["good", "hang", "gone"]


def odd_reader(path: Path) -> str:
    """What some file names stand for; each that is read is noted."""
    import os
    import time

    text = path.read_text()
    with (path.parent / "log").open("a") as log:
        log.write(f"{path.name}\n")
    if text == "exit":
        os._exit(1)
    if text == "hang":
        time.sleep(60)
    if text == "deep":
        raise RecursionError("too deep")
    return text

import subprocess
import sys

import pytest

from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.registry import environment_class, find_task, make, names


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown environment 'chess'.*alfworld, babyai"):
        environment_class("chess")


@pytest.mark.usefixtures("tricky")
def test_an_entry_point_adds_an_environment() -> None:
    assert "tricky" in names()
    assert make("tricky").name == "tricky"
    assert {"alfworld", "babyai", "scienceworld"} < set(names())


def test_an_absent_engine_names_the_extra() -> None:
    """In a process of its own: here the engine may be imported already."""
    code = "import sys; sys.modules['scienceworld'] = None; from agentrm.environments import make; make('scienceworld')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: ScienceWorld needs `pip install agentrm[scienceworld]`" in result.stderr


def test_an_absent_java_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scienceworld")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"Java 17.*apt install"):
        make("scienceworld")


def test_official_data_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"holds no json_2\.1\.1"):
        environment_class("alfworld").size("look_at_obj_in_light", "train")
    assert environment_class("alfworld").size("look_at_obj_in_light_small", "train") > 0


def test_a_task_is_found_by_its_id() -> None:
    for task in (Task("babyai", "goto_local", "test", 3, 7), Task("babyai+walk", "goto_local", "train", 0, 0)):
        assert find_task(task.id, seed=5) == task
    assert find_task("babyai.goto_local.test.3", seed=5) == Task("babyai", "goto_local", "test", 3, 5)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("babyai", "environment.kind.split.index"),
        ("babyai.goto_local.test.x", "environment.kind.split.index"),
        ("chess.blitz.test.3", "unknown environment 'chess'"),
        ("babyai.goto_mars.test.3", "goto_local"),
        ("babyai.goto_local.dev.3", "train, valid, test"),
        ("babyai.goto_local.test.999999", "in test"),
    ],
)
def test_a_task_that_does_not_exist_is_named(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        find_task(name, seed=0)

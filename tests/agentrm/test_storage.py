"""Locations: the same calls on paths, on `file://` and on a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob
from pathlib import Path
from urllib.parse import unquote

import pytest

from agentrm import storage
from agentrm.config.loading import load
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.run import RunDirectory
from tests.names import NASTY
from tests.servers import s3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3() as bucket:
        yield bucket


@pytest.fixture(params=["path", "file", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{request.node.originalname}"
    return f"{'file://' if request.param == 'file' else ''}{tmp_path}/folder"


def test_texts_are_written_read_and_listed(location: str) -> None:
    assert storage.read_text(f"{location}/a.json") is None and storage.names(location) == []
    storage.write_text(f"{location}/a.json", "one")
    storage.write_text(f"{location}/deep/b.json", "zwei")
    storage.write_text(f"{location}/a.json", "ein Ä")
    assert storage.read_text(f"{location}/a.json") == "ein Ä"
    assert storage.names(location) == ["a.json", "deep"] and storage.names(f"{location}/deep") == ["b.json"]
    storage.delete(f"{location}/deep")
    storage.delete(f"{location}/none")
    assert storage.names(location) == ["a.json"]


def test_a_folder_is_finished_when_its_block_has_ended(location: str) -> None:
    with pytest.raises(FileNotFoundError), storage.writing(location) as folder:
        (folder / "half").write_text((folder / "absent").read_text())
    assert not storage.finished(location)
    with storage.writing(location) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "model").write_text("whole")
        assert not storage.finished(location)
    assert storage.finished(location)
    assert (storage.fetch(location) / "deep" / "model").read_text() == "whole"
    assert storage.fetch(location) == storage.fetch(location)


@pytest.mark.parametrize("location", ["file", "s3"], indirect=True)
def test_what_was_cut_off_while_it_was_brought_to_a_uri_is_not_finished_and_made_again(location: str) -> None:
    storage.write_text(f"{location}/.writing", "")
    storage.write_text(f"{location}/half", "")
    assert not storage.finished(location)
    with storage.writing(location) as folder:
        (folder / "model").write_text("whole")
    assert storage.finished(location) and storage.names(location) == ["model"]


@pytest.mark.parametrize("location", ["file", "s3"], indirect=True)
def test_what_has_changed_at_a_uri_is_fetched_anew(location: str) -> None:
    assert not storage.fetch(location).exists()
    storage.write_text(f"{location}/model", "first")
    first = storage.fetch(location)
    storage.write_text(f"{location}/model", "second one")
    assert (storage.fetch(location) / "model").read_text() == "second one"
    assert (first / "model").read_text() == "first"


def test_files_on_this_machine_stand_for_a_folder_as_long_as_it_is_there(location: str) -> None:
    (storage.scratch(location) / "events").write_text("first")
    assert (storage.scratch(location) / "events").read_text() == "first"
    before = storage.identity(location)
    storage.delete(location)
    assert not (storage.scratch(location) / "events").exists() and storage.identity(location) != before


def test_a_run_goes_on_from_its_location_alone(location: str) -> None:
    config = load("quickstart", [f"run={location}"])
    run = RunDirectory.open(config)
    with run.writing("policy") as output:
        (output / "model").write_text("weights")
    run.write_metrics("clone", {"loss": 0.5})
    task = Task("babyai", "goto_local", "train", 3)
    TreeStore(run.at("trees")).write(Tree(task, [Node(parent=-1, depth=0, observation="a ball", visits=1)]))
    again = RunDirectory.existing(location)
    assert again.config == config and again.metrics("clone") == {"loss": 0.5} and again.metrics("train") == {}
    assert again.require("policy", "clone") == f"{location}/policy"
    assert (again.path("policy") / "model").read_text() == "weights"
    assert TreeStore(again.require("trees", "trees")).finished() == {task.id}
    with pytest.raises(UserError, match=r"reward_model is not there: run `agentrm train` first"):
        again.require("reward_model", "train")
    with pytest.raises(UserError, match=rf"trees\.iterations={config.trees.iterations}, not 5"):
        RunDirectory.open(load("quickstart", [f"run={location}", "trees.iterations=5"]))
    other = RunDirectory.open(load("quickstart", [f"run={location}/experiments/x"]))
    other.borrow(again, ["policy"])
    assert (other.path("policy") / "model").read_text() == "weights" and other.metrics("clone") == {"loss": 0.5}


def test_a_local_run_reuses_one_at_a_location(location: str, tmp_path: Path) -> None:
    config = load("quickstart", [f"run={location}"])
    with RunDirectory.open(config).writing("demonstrations") as output:
        (output / "played").write_text("episodes")
    run = RunDirectory.open(load("quickstart", [f"run={tmp_path / 'run'}", f"reuse={location}"]))
    assert (run.path("demonstrations") / "played").read_text() == "episodes"


def test_any_name_that_a_filesystem_takes_is_one_folder(location: str) -> None:
    # The test's server for S3 takes its time, and knows no URL with a new line.
    nasty = [name for name in NASTY if "\n" not in name][::4] if location.startswith("s3:") else NASTY
    for name in nasty:
        storage.write_text(f"{location}/{name}/deep/a.json", name)
        with storage.writing(f"{location}/{name}/stage") as folder:
            (folder / "model").write_text(name)
    taken = {unquote(name) for name in nasty} if storage.is_uri(location) else set(nasty)
    assert set(storage.names(location)) == taken
    for name in nasty:
        called = unquote(name) if storage.is_uri(location) else name
        assert storage.read_text(f"{location}/{name}/deep/a.json") in (name, called)
        assert storage.name(f"{location}/{name}/") == called
        assert storage.finished(f"{location}/{name}/stage")
        assert (storage.fetch(f"{location}/{name}/stage") / "model").read_text() in (name, called)
    if storage.is_uri(location):
        assert storage.read_text(f"{location}/first%20%232/deep/a.json") == "first #2"


@pytest.mark.parametrize("name", NASTY)
def test_a_model_in_any_folder_has_a_path_that_is_no_pattern(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.safetensors").write_text("weights")
    for _ in range(2):
        found = glob(f"{storage.plain(tmp_path / name)}/*.safetensors")  # noqa: PTH207 as vLLM does
        assert [Path(path).read_text() for path in found] == ["weights"]


def test_a_tilde_is_the_home_folder_and_else_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("~/x") == str(tmp_path / "x")
    assert storage.absolute("~nobody-of-this-name/x") == str(tmp_path / "~nobody-of-this-name" / "x")
    assert not storage.is_uri("odd/a://b") and storage.is_uri("s3://b")


@pytest.mark.parametrize("name", ["\udcff", "a\0b", "x" * 300])
def test_a_name_that_no_filesystem_takes_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        RunDirectory.open(load("quickstart", [f"run={tmp_path}/{name}"]))
    assert len(str(caught.value).splitlines()) == 1 and str(tmp_path) in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run cannot be reached"):
        RunDirectory.open(load("quickstart", [f"run={tmp_path}/file/run"]))


def test_a_location_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(UserError, match="gopher://x/run cannot be reached"):
        storage.names("gopher://x/run")

"""Configuration files: what a file extends lies below what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrm.config.files import read
from agentrm.config.loading import flatten, load
from agentrm.core.errors import UserError


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_the_llama_presets_differ_in_their_hardware_only() -> None:
    base = load("llama3-8b")
    for name in ("llama3-8b-lora", "llama3-8b-cluster"):
        preset = load(name)
        assert (preset.tasks, preset.model, preset.sampling) == (base.tasks, base.model, base.sampling)
        assert preset.trees.iterations == base.trees.iterations
        assert preset.run == f"{'/shared/' if name.endswith('cluster') else ''}runs/{name}"


def test_a_chain_is_merged_key_by_key_and_lists_replace_lists(tmp_path: Path) -> None:
    _write(tmp_path, top="extends: lower/middle.yaml\nclone: {epochs: 7}\nevaluate: {methods: [beam]}\n")
    (tmp_path / "lower").mkdir()
    _write(tmp_path / "lower", middle="extends: ../base.yaml\nclone: {epochs: 5, learning_rate: 1e-3}\nseed: 4\n")
    _write(tmp_path, base="extends: quickstart\nseed: 3\nevaluate: {methods: [greedy, best_of_n], n: 2}\n")
    below, merged = flatten(load("quickstart")), flatten(load(str(tmp_path / "top.yaml")))
    assert {key: value for key, value in merged.items() if value != below[key]} == {
        "clone.epochs": 7,
        "clone.learning_rate": 1e-3,
        "evaluate.methods": ["beam"],
        "evaluate.n": 2,
        "seed": 4,
    }


def test_values_are_passed_on_as_they_are_written(tmp_path: Path) -> None:
    _write(
        tmp_path, base="run: 007\nserve: {api_key: '0x1'}\n", top="extends: base.yaml\nclone: {learning_rate: 2e-5}\n"
    )
    _, text = read(str(tmp_path / "top.yaml"))
    assert text.splitlines() == ["run: 007", "serve: {api_key: '0x1'}", "clone: {learning_rate: 2e-5}"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"top": "extends: top.yaml"}, "top.yaml, a circle: take extends out"),
        ({"top": "extends: a.yaml", "a": "extends: ./top.yaml"}, "a.yaml extends"),
        ({"top": "extends: none"}, "top.yaml is 'none', no preset or file: give a path from"),
        ({"top": "extends: a.yaml", "a": "extends: none.yaml"}, "a.yaml is 'none.yaml'"),
        ({"top": "extends:"}, "top.yaml is '', no preset"),
        ({"top": "extends: [quickstart, smollm2]"}, "top.yaml names several files"),
        ({"top": "extends: a.yaml", "a": "- 1"}, "a.yaml, which holds no keys"),
        ({"top": "extends: a.yaml", "a": ""}, "a.yaml, which holds no keys"),
        ({"top": "extends: a.yaml", "a": "run: ["}, "a.yaml is no YAML"),
        ({"top": "extends: a.yaml", "a": "extends: quickstart\nclone: {epoch: 1}"}, "clone.epoch"),
        ({"top": "extends: quickstart\nextends: smollm2"}, "top.yaml names several files"),
    ],
)
def test_what_cannot_be_extended_is_named(files: dict[str, str], told: str, tmp_path: Path) -> None:
    _write(tmp_path, **files)
    with pytest.raises(UserError) as caught:
        load(str(tmp_path / "top.yaml"))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_override_extends_nothing() -> None:
    with pytest.raises(UserError, match="the key extends"):
        load("quickstart", ["extends=smollm2"])

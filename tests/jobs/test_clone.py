"""A base model that is to be the policy as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.config.schema import Model, Scratch
from agentrm.core.errors import UserError
from agentrm.models.initial import prepare
from agentrm.run import RunDirectory
from jobs import clone


def test_without_epochs_the_base_model_is_the_policy(tmp_path: Path) -> None:
    tiny = Model("scratch", scratch=Scratch(vocabulary=300, hidden=64, layers=1, heads=2), context=64)
    prepare(tiny, ["go to the red ball", "turn left"], 0, tmp_path / "base")
    keys = [f"run={tmp_path / 'run'}", "clone.epochs=0", f"model.source={tmp_path / 'base'}", "model.context=64"]
    config = load("quickstart", keys)
    assert clone.run(config) == {}
    directory = RunDirectory.open(config)
    assert directory.finished("policy")
    assert not directory.finished("demonstrations")
    weights = "model.safetensors"
    assert (directory.path("policy") / weights).read_bytes() == (tmp_path / "base" / weights).read_bytes()
    # A second time there is nothing to do.
    assert clone.run(config) == {}


def test_a_model_from_scratch_has_to_learn_something(tmp_path: Path) -> None:
    config = load("quickstart", [f"run={tmp_path / 'run'}", "clone.epochs=0"])
    with pytest.raises(UserError, match=r"clone\.epochs=0 takes the base model as it is"):
        clone.run(config)

"""What a table lacks is told before anything starts, and nothing is made for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.core.errors import UserError
from agentrm.evaluation.experiments import EXPERIMENTS, TABLES
from agentrm.run import RunDirectory
from jobs import reproduce

ALL = ["policy", "trees", "reward_model", "evaluation"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load("quickstart", [f"run={tmp_path / 'run'}"])


def stages(config: Config, table: str) -> dict[str, list[str]]:
    return {name: list(costs) for name, costs in reproduce.missing(config, table).items()}


def test_every_table_has_its_experiments() -> None:
    assert list(TABLES) == ["main", "robustness", "weak-to-strong", "scaling", "ablation", "kinds"]
    assert {name for names in TABLES.values() for name in names} <= set(EXPERIMENTS)


def test_what_is_missing_is_told_by_run(config: Config) -> None:
    assert stages(config, "main") == {"the run itself": ALL}
    own = "state-ablation, no-actions"
    ablation = stages(config, "ablation")
    # The experiment needs the run's models, and no evaluation of it.
    assert ablation["the run itself"] == ALL[:3]
    assert ablation["state-ablation, whole"] == ["evaluation"] and ablation[own] == ["reward_model", "evaluation"]
    assert stages(config, "weak-to-strong")["weak-to-strong, strong"] == ["policy", "evaluation"]
    assert not Path(config.run).exists()


def test_what_is_there_costs_nothing(config: Config) -> None:
    directory = RunDirectory.open(config)
    for folder in ("policy", "trees"):
        Path(directory.at(folder)).mkdir()
    assert stages(config, "main") == {"the run itself": ALL[2:]}
    for folder in ALL[2:]:
        Path(directory.at(folder)).mkdir()
    assert stages(config, "main") == {}


def test_what_another_run_lends_costs_nothing(config: Config, tmp_path: Path) -> None:
    directory = RunDirectory.open(config)
    for folder in ("policy", "trees"):
        Path(directory.at(folder)).mkdir()
    borrowing = [f"run={tmp_path / 'wider'}", f"reuse={config.run}"]
    assert stages(load("quickstart", borrowing), "main") == {"the run itself": ALL[2:]}
    assert stages(load("quickstart", [*borrowing, "trees.iterations=2"]), "main") == {"the run itself": ALL[1:]}


def test_a_plan_is_printed_and_nobody_is_asked_in_vain(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    found = reproduce.run(config, "kinds", only_plan=True, agreed=False)
    told = capsys.readouterr().out
    assert "reward-kinds, implicit" in told and "GPU hours" in told and len(found) == 6
    with pytest.raises(UserError, match="add --yes, or --plan"):
        reproduce.run(config, "main", only_plan=False, agreed=False)
    with pytest.raises(UserError, match="no table 'mian': choose one of main, robustness"):
        reproduce.run(config, "mian", only_plan=True, agreed=False)

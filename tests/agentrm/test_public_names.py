"""The public face: what programs may import stays, and `import agentrm` stays free of what is slow to import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import agentrm
import agentrm.search

HEAVY = {"aiohttp", "numpy", "omegaconf", "pandas", "pyarrow", "pydantic", "ray", "torch", "transformers", "vllm"}

PUBLIC = """
    AgentRMError AsyncScoringClient Config ContextOverflow Conversation Environment EnvironmentFailure
    EnvironmentHost Grade Grader InputRefused ModelError Node Observation Policy Proposal Renderer RewardModel
    RunDirectory ScoringClient ServiceError Sessions State Step Task Tree TreeStore UserError load make
"""
SEARCH = """
    Beam BestOfN Cost DVTS Exploration Greedy GuidedMCTS JudgedBestOfN Lookahead Majority Opening Result Sample Stepwise
    Strategy Weighted search
"""


def modules_after(program: str) -> set[str]:
    """The modules that a program has imported in an interpreter of its own."""
    listed = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", listed], text=True)))


def test_the_public_names_are_these() -> None:
    assert agentrm.__all__ == sorted(PUBLIC.split())
    assert sorted(agentrm.search.__all__) == sorted(SEARCH.split())
    assert set(agentrm.__all__) < set(dir(agentrm))


def test_each_name_is_what_a_type_checker_takes_it_for() -> None:
    (checked,) = (node for node in ast.parse(Path(agentrm.__file__).read_text()).body if isinstance(node, ast.If))
    homes = {
        each.asname: node.module for node in checked.body if isinstance(node, ast.ImportFrom) for each in node.names
    }
    assert sorted(homes) == agentrm.__all__
    for name, module in homes.items():
        assert getattr(agentrm, name).__module__ == module


def test_importing_it_imports_nothing_else() -> None:
    found = modules_after("import agentrm\ndir(agentrm)")
    assert not {name for name in found if name.startswith("agentrm.")}
    assert not HEAVY & found


def test_tasks_states_environments_and_errors_are_light() -> None:
    assert not HEAVY & modules_after(
        "from agentrm import Environment, State, Task, UserError, make\nmake('maze').close()"
    )


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(agentrm, "RewardTrainer")

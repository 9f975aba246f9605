"""The benchmark of the service on a run that is made by hand: real engines, real HTTP, nothing lost."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from agentrm.config import load
from agentrm.config.schema import Scratch
from agentrm.data.trees import TreeStore
from agentrm.environments.base import Task
from agentrm.models import explicit
from agentrm.models.initial import prepare
from agentrm.run import RunDirectory
from agentrm.search.tree import Node, Tree
from jobs.benchmark_serve import run

STEPS = 6


def tree(index: int) -> Tree:
    """One episode of STEPS steps."""
    nodes = [Node(-1, 0, f"room {index} with a ball", visits=1, value=0.5)]
    for depth in range(1, STEPS + 1):
        text = f"go {depth}{index}"
        nodes.append(Node(depth - 1, depth, f"see {text}", text, text=text, visits=1, value=0.5))
    return Tree(Task("babyai", "goto_local", "train", index), nodes)


def test_all_figures_are_measured_and_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    changes = [f"run={tmp_path / 'run'}", f"serve.port={port}", "model.context=256", "reward_engine.kv_cache_gib=0.05"]
    config = load("quickstart", changes)
    directory = RunDirectory.open(config)
    shape = Scratch(vocabulary=300, hidden=64, layers=2, heads=2)
    prepare(replace(config.model, scratch=shape), ["a room with a ball"] * 9, 0, tmp_path / "base")
    with directory.writing("reward_model") as target:
        explicit.build(tmp_path / "base", target)
        model = AutoModelForSequenceClassification.from_pretrained(target)
        torch.nn.init.normal_(model.score.weight)
        model.save_pretrained(target)
    store = TreeStore(directory.path("trees"))
    for index in range(3):
        store.write(tree(index))
    capsys.readouterr()
    figures = run(config, trees=3, clients=4, seconds=1, as_json=True)
    assert json.loads(capsys.readouterr().out) == figures
    assert figures["states"] == 2 * (1 + STEPS)
    assert figures["lost"] == 0 and figures["answered"] >= 4
    measured = ("http_of_engine", "speedup_transformers", "incremental_ratio", "memory_mb_before", "memory_mb_after")
    assert all(figures[name] > 0 for name in measured)

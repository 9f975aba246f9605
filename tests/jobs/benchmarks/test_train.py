"""The benchmark on a run that is made by hand: all ways see the same states, and their losses agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.config.schema import Scratch
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.models.initial import prepare
from agentrm.run import RunDirectory
from jobs.benchmarks.train import run

STEPS = 12


def tree(index: int) -> Tree:
    """Two episodes of STEPS steps that share the first state alone."""
    nodes = [Node(-1, 0, "a room with a ball", visits=2, value=0.5)]
    for branch in (0, 1):
        parent = 0
        for depth in range(1, STEPS + 1):
            text = f"go {branch}{depth}{index}"
            nodes.append(Node(parent, depth, f"see {text}", text, text=text, visits=1, value=float(branch)))
            parent = len(nodes) - 1
    return Tree(Task("babyai", "goto_local", "train", index), nodes)


def test_ours_is_faster_and_its_loss_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load("quickstart", [f"run={tmp_path / 'run'}", "train.tokens_per_batch=2048"])
    directory = RunDirectory.open(config)
    shape = Scratch(vocabulary=400, hidden=64, layers=2, heads=2)
    with directory.writing("policy") as target:
        prepare(replace(config.model, scratch=shape), ["a room with a ball"] * 9, 0, target)
    store = TreeStore(directory.path("trees"))
    for index in range(8):
        store.write(tree(index))
    capsys.readouterr()
    figures = run(config, trees=6, as_json=True)
    assert json.loads(capsys.readouterr().out) == figures
    ours, padded, dense = figures["arms"]
    assert ours["states"] == padded["states"] == 6 * (1 + 2 * STEPS)
    assert dense["tokens"] == pytest.approx(ours["tokens"], rel=0.5)
    assert figures["loss_difference"] < 1e-4
    assert ours["loss"] == pytest.approx(padded["loss"], abs=1e-4)
    # Each padded row reads a whole prefix again: 6.5 times the tokens.
    assert padded["tokens"] > 5 * ours["tokens"]
    assert figures["speedup_padded"] > 2
    run(config, trees=1)
    assert "of the dense rate" in " ".join(capsys.readouterr().out.split())

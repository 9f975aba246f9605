"""What a policy learns from its own trees: the shortest success of each task, in which every turn could be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agentrm.config.schema import DemonstrationSet
from agentrm.core.errors import UserError
from agentrm.core.tree import Node, Tree
from agentrm.data.successes import successes
from agentrm.data.trees import TreeStore
from tests.agentrm.search.toy import TASK


def grown(index: int, *ends: tuple[int, float, bool], split: str = "train", kind: str = TASK.kind) -> Tree:
    """A tree of episodes of so many steps that end with an outcome; the first turn of one may be malformed."""
    nodes = [Node(-1, 0, "a fork", visits=1)]
    for steps, outcome, malformed in ends:
        parent = 0
        for step in range(steps):
            turn = f"go {len(nodes)}"
            nodes.append(
                Node(parent, step + 1, "on", action=turn, text=turn, malformed=malformed and not step, visits=1)
            )
            parent = len(nodes) - 1
        nodes[parent].outcome = outcome
    return Tree(replace(TASK, index=index, split=split, kind=kind), nodes)


@pytest.fixture
def store(tmp_path: Path) -> str:
    store = TreeStore(tmp_path)
    store.write(grown(0, (3, 1.0, False), (2, 1.0, False), (1, 1.0, True), (1, 0.5, False)))
    store.write(grown(1, (1, 0.9, False)))
    store.write(grown(2, (1, 1.0, False), kind="other"))
    store.write(grown(3, (1, 1.0, False), split="test"))
    return str(tmp_path)


def chosen(store: str, **more: object) -> DemonstrationSet:
    return DemonstrationSet(environment=TASK.environment, trees=store, **more)


def test_the_shortest_success_of_each_task_is_learned(store: str) -> None:
    found = successes([chosen(store)])
    said = [
        [m["content"] for m in each.conversation.messages if m["role"] == "assistant"] for each in found.demonstrations
    ]
    assert sorted(said) == [["go 1"], ["go 4", "go 5"]]
    own = found.counts[f"{TASK.environment}.{TASK.kind}"]
    assert (own["kept"], own["without_success"]) == (1, 1)
    assert found.counts[f"{TASK.environment}.other"]["kept"] == 1


def test_kinds_and_numbers_choose_among_them(store: str) -> None:
    (only,) = successes([chosen(store, kinds=["other"])]).demonstrations
    assert only.task.kind == "other"
    assert len(successes([chosen(store, count=1)]).demonstrations) == 1
    with pytest.raises(UserError, match=r"holds successes in 2 tasks of .*, too few for offset=0 and count=3"):
        successes([chosen(store, count=3)])
    with pytest.raises(UserError, match="too few"):
        successes([DemonstrationSet(environment="maze", trees=store)])

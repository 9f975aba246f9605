"""A run that has come as far as its trees: one that is small enough to reckon by hand, and one of 5,000 nodes."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from agentrm.config.loading import load, resolved
from agentrm.config.schema import Episodes
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.episodes.episode import Episode
from agentrm.episodes.reading import read
from agentrm.episodes.sources import found
from agentrm.evaluation.rewards.table import ValueTable, key, rows
from agentrm.evaluation.rewards.values import Values
from agentrm.service.gateway.forms import Candidate, Chosen
from agentrm.service.gateway.recording import Recorder
from jobs import importing
from tests.names import NASTIEST

SMALL, LARGE = Task("babyai", "goto_local", "train", 1), Task("maze", "perfect_small", "train", 7)
NODES = 5000


def small() -> Tree:
    """Two answers to the task: the one that is visited more is not the one of higher value."""
    return Tree(
        SMALL,
        [
            Node(-1, 0, "Your task: <b>win</b>.<script>document.title = 'taken'</script>", visits=4, value=0.5),
            Node(0, 1, "A wall.", "go left", visits=3, value=1 / 3),
            Node(0, 1, "A door.", "go right", "Doors lead on.", visits=1, value=1.0, outcome=1.0, progress=1.0),
            Node(1, 2, "Another wall.", "go left", visits=1, value=1.0, estimate=0.25),
            Node(1, 2, "Nothing.", "wait", visits=1, value=0.0, outcome=0.0, progress=0.0, terminal=True),
        ],
        iterations=4,
        ended_by="iterations",
        policy_tokens=12,
        seconds=1.5,
    )


def large() -> Tree:
    """Chains of 50 steps below the root."""
    nodes = [Node(-1, 0, "A maze.", visits=NODES)]
    for index in range(1, NODES):
        first = (index - 1) % 50 == 0
        parent = 0 if first else index - 1
        depth = nodes[parent].depth + 1
        nodes.append(Node(parent, depth, f"Room {index}.", f"move {index}", visits=1, value=index / NODES))
    return Tree(LARGE, nodes, ended_by="steps")


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory, to read."""
    root = tmp_path_factory.mktemp("run") / NASTIEST
    root.mkdir()
    (root / "config.yaml").write_text(resolved(load("quickstart", [f"run={root}"])))
    store = TreeStore(root / "trees")
    for tree in (small(), large()):
        for index, node in enumerate(tree.nodes[1:], start=1):
            tree.nodes[node.parent].children.append(index)
        store.write(tree)
    return root


def spoken(*turns: str) -> list[dict[str, str]]:
    """What the user and the agent say in turn."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


EPISODES = (
    {
        "id": "won",
        "model": "good",
        "reward": 1,
        "messages": spoken("Add <b>2</b> and 2.", "2 + 2", "Well?", "It is 4."),
    },
    {
        "id": "lost",
        "model": "bad",
        "reward": 0,
        "messages": spoken("Add <b>2</b> and 2.", "2 + 2", "Well?", "It is 5."),
    },
    {
        "id": "sly",
        "model": "bad",
        "reward": 0,
        "messages": [{"role": "system", "content": "Be sly."}, *spoken("Go.", "4")],
    },
)
"""Two of one opening and one of another, of one task."""
VALUES = {"won": [0.25, 0.5, 2.0], "lost": [0.25, 0.5, -1.0]}


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of imported episodes, `log.jsonl` beside it, and `values.parquet` of two of them."""
    root = tmp_path_factory.mktemp("imported")
    log = root / "log.jsonl"
    log.write_text("".join(json.dumps(row | {"task_id": "sum"}) + "\n" for row in EPISODES))
    importing.run(load("imported", [f"run={root / 'run'}"]), [str(log)])
    table = ValueTable(root / "values.parquet", "a-model")
    scored = [each for each in read(found([str(log)]), Episodes()) if isinstance(each, Episode) and each.id in VALUES]
    table.add([row for each in scored for row in rows(each, Values(VALUES[each.id]), "a-model")])
    table.commit({str(log)}, {key(each) for each in scored})
    return root


@pytest.fixture
def root(untouched: Path, tmp_path: Path) -> Path:
    """A copy of the run directory, to change."""
    return shutil.copytree(untouched, tmp_path / untouched.name)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two turns of a session: one of two candidates, and one that the agent got elsewhere before it ended."""
    folder = tmp_path_factory.mktemp("recordings")
    messages = [{"role": "user", "content": "Go to the door."}]
    call = {"id": "1", "type": "function", "function": {"name": "move", "arguments": '{"to": "door"}'}}
    taken = {"role": "assistant", "content": "To the door.", "tool_calls": [call]}
    other = {"role": "assistant", "content": "To the wall."}

    async def record() -> None:
        recorder = Recorder(str(folder))
        for session in ("first", "second"):
            candidates = [Candidate({"message": other}), Candidate({"message": taken})]
            await recorder.turn(
                session, {"model": "m", "messages": messages}, Chosen({}, candidates, [0.25, 0.75], [1], {})
            )
        after = [*messages, taken, {"role": "tool", "tool_call_id": "1", "content": "A door."}]
        elsewhere = [*after, {"role": "assistant", "content": "I open it."}, {"role": "user", "content": "Well done."}]
        last = Candidate({"message": {"role": "assistant", "content": "Thanks."}})
        await recorder.turn("first", {"model": "m", "messages": elsewhere}, Chosen({}, [last], [None], [0], {}, "why"))
        await recorder.outcome("first", 1.0)

    asyncio.run(record())
    return folder

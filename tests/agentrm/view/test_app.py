"""The viewer's JSON over a run that has come as far as its trees."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file
from tensorboardX import SummaryWriter
from transformers import AutoModelForSequenceClassification

from agentrm.config.loading import load
from agentrm.config.schema import Episodes, Model, Scratch
from agentrm.core.errors import UserError
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore, from_table
from agentrm.episodes.episode import Episode
from agentrm.episodes.export.writing import write
from agentrm.episodes.reading import read
from agentrm.episodes.sources import found
from agentrm.evaluation.rewards.table import ValueTable, key, rows
from agentrm.evaluation.rewards.values import Values
from agentrm.models.explicit import build, raw_values
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from agentrm.view.app import create_app
from jobs import importing
from tests.agentrm.view.conftest import EPISODES, LARGE, NODES, SMALL
from tests.names import NASTIEST
from tests.reward_models import write_reward_model


@pytest.fixture
def client(root: Path) -> Iterator[TestClient]:
    with TestClient(create_app(RunDirectory.existing(root)), base_url="http://127.0.0.1:8400") as client:
        yield client


def test_a_directory_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} is no run of AgentRM, as config\.yaml is not in it"):
        RunDirectory.existing(tmp_path)


def test_what_is_not_there_yet_is_said(root: Path, client: TestClient) -> None:
    run = client.get("/api/run").json()
    assert (run["name"], run["path"]) == (NASTIEST, str(root))
    states = {stage["name"]: stage["state"] for stage in run["stages"]}
    assert states == {
        "demonstrations": "missing",
        "policy": "missing",
        "trees": "begun",
        "reward model": "missing",
        "evaluation": "missing",
    }
    assert client.get("/api/curves").json() == {"losses": {}, "figure": ""}
    assert client.get("/api/quality").json()["rows"] == []
    results = client.get("/api/results").json()
    assert results["groups"] == [] and results["figures"] == {"outcome": "", "budget": ""}


def test_a_fit_that_runs_shows_its_progress_and_its_curve(root: Path, client: TestClient) -> None:
    work = root / "work" / "clone"
    with SummaryWriter(str(work / "tensorboard")) as writer:
        for step in (1, 2, 3):
            writer.add_scalar("loss", 1 / step, step)
    (work / "progress.json").write_text(json.dumps({"step": 3, "steps": 9}))
    policy = client.get("/api/run").json()["stages"][1]
    assert (policy["state"], policy["done"], policy["total"], policy["unit"]) == ("begun", 3, 9, "steps")
    curves = client.get("/api/curves").json()
    assert [step for step, _ in curves["losses"]["policy, cross entropy"]] == [1, 2, 3]
    assert curves["figure"].startswith("<svg")


def test_the_table_and_the_score_against_the_budget(root: Path, client: TestClient) -> None:
    figures = {"tasks": 2, "outcome": 0.5, "outcome_low": 0.25, "outcome_high": 0.75, "policy_tokens": 1234.0}
    row = figures | {"success": 0.5, "scored_states": 0.0, "environment_steps": 7.0, "seconds": 1.0, "closed": None}
    (root / "metrics").mkdir(exist_ok=True)
    (root / "metrics" / "evaluate.json").write_text(json.dumps({"held-in": {"sampled mean": row, "best of 2": row}}))
    results = client.get("/api/results").json()
    (group,) = results["groups"]
    assert (group["name"], group["tasks"]) == ("held-in", 2)
    assert [each["class"] for each in group["rows"]] == ["baseline", "scored"]
    assert (
        group["rows"][1]["cells"][:2] == ["best of 2", "0.500 [0.250, 0.750]"] and "1,234" in group["rows"][1]["cells"]
    )
    assert len(group["rows"][0]["cells"]) == len(results["headings"])
    assert "policy tokens per task" in results["figures"]["budget"]


def test_trees_are_listed_and_filtered(client: TestClient) -> None:
    listed = client.get("/api/trees").json()
    assert listed["total"] == 2
    assert listed["trees"][0] == {
        "id": SMALL.id,
        "environment": "babyai",
        "kind": "goto_local",
        "split": "train",
        "index": 1,
        "number": 0,
        "iterations": 4,
        "ended_by": "iterations",
        "visits": 4,
        "value": 0.5,
        "nodes": 5,
        "ended": 2,
        "best": 1.0,
    }
    assert listed["trees"][1]["nodes"] == NODES and listed["trees"][1]["best"] is None
    found = client.get("/api/trees", params={"text": "MAZE"}).json()
    assert [tree["id"] for tree in found["trees"]] == [LARGE.id] and found["total"] == 1
    assert client.get("/api/trees", params={"start": 2}).json() == {"total": 2, "trees": []}


def test_the_nodes_of_a_tree_and_its_two_paths(client: TestClient) -> None:
    tree = client.get(f"/api/trees/{SMALL.id}").json()
    assert tree["columns"]["parent"] == [-1, 0, 0, 1, 1]
    assert tree["columns"]["action"] == ["", "go left", "go right", "go left", "wait"]
    assert tree["columns"]["outcome"] == [None, None, 1.0, None, 0.0]
    assert tree["columns"]["estimate"] == [None, None, None, 0.25, None]
    assert tree["most_visited"] == [0, 1, 3]
    assert tree["highest_value"] == [0, 2]
    assert tree["facts"]["policy_tokens"] == 12


def test_the_whole_text_of_a_path_and_what_contains_a_text(client: TestClient) -> None:
    start, step = client.get(f"/api/trees/{SMALL.id}/path/2").json()
    ((speaker, text),) = start["answers"]
    assert speaker == "instruction and first observation" and "<script>" in text
    assert (step["thought"], step["action"]) == ("Doors lead on.", "go right")
    assert step["answers"] == [["observation", "A door."]]
    matches = f"/api/trees/{SMALL.id}/matches"
    assert client.get(matches, params={"text": "DOOR"}).json() == [2]
    assert client.get(matches, params={"text": "wall"}).json() == [1, 3]


@pytest.mark.parametrize(
    "path",
    [
        "/api/trees/absent",
        "/api/trees/..%2F..%2Fconfig.yaml",
        "/page/..%2Fapp.py",
        f"/api/trees/{SMALL.id}/path/5",
        f"/api/trees/{SMALL.id}/path/-1",
    ],
)
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404 and response.json()["error"]["message"]


def test_a_file_that_is_no_tree_is_named(root: Path, client: TestClient) -> None:
    path = root / "trees" / "babyai" / "train" / "broken.parquet"
    path.write_bytes(b"PAR1")
    try:
        response = client.get("/api/trees/broken")
    finally:
        path.unlink()
    assert response.status_code == 409 and "broken.parquet" in response.json()["error"]["message"]


def test_a_file_that_goes_while_it_is_read_is_said(root: Path, client: TestClient) -> None:
    events = root / "work" / "clone" / "tensorboard" / "events.out.tfevents.1"
    events.parent.mkdir(parents=True)
    events.symlink_to(root / "gone")
    response = client.get("/api/curves")
    assert response.status_code == 409 and "refresh" in response.json()["error"]["message"]


def test_pages_of_others_cannot_reach_it(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    headers = client.get("/").headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


def test_the_reward_models_values_are_those_of_transformers(root: Path, client: TestClient, tmp_path: Path) -> None:
    values = f"/api/trees/{SMALL.id}/values"
    assert client.get(values).json() == {"available": False, "asked": False, "values": [], "error": ""}
    refused = client.post(values)
    assert refused.status_code == 404 and "`agentrm train`" in refused.json()["error"]["message"]

    directory = root / "reward_model"
    model = Model(source="scratch", context=64, scratch=Scratch(vocabulary=300, hidden=64, layers=1, heads=2))
    prepare(model, ["go to the door"] * 9, 0, tmp_path / "policy")
    build(tmp_path / "policy", directory)
    weights = load_file(directory / "model.safetensors")
    weights["score.weight"] = torch.linspace(-1, 1, 64)[None]
    save_file(weights, directory / "model.safetensors", {"format": "pt"})

    answer = client.post(values).json()
    while len(answer["values"]) < 5:
        assert answer["available"] and answer["asked"] and not answer["error"]
        time.sleep(0.05)
        answer = client.get(values).json()
    tree = from_table(TreeStore(root / "trees").table(SMALL.id))
    renderer = Renderer.from_pretrained(directory, 1536)
    scorer = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    expected = raw_values(scorer, [renderer.ids(tree.state(node).conversation().messages) for node in range(5)])
    assert answer["values"] == pytest.approx(expected) and len(set(expected)) == 5


def test_a_reward_model_that_cannot_be_loaded_is_said_and_asked_again(root: Path, client: TestClient) -> None:
    values = f"/api/trees/{SMALL.id}/values"
    (root / "reward_model").mkdir()
    (root / "reward_model" / "config.json").write_text("{}")
    for _ in range(2):
        client.post(values)
        while not (answer := client.get(values).json())["error"]:
            time.sleep(0.05)
        assert "names no class" in answer["error"] and not answer["asked"]


@pytest.fixture
def of_others(imported: Path) -> Iterator[TestClient]:
    app = create_app(RunDirectory.existing(imported / "run"), values=imported / "values.parquet")
    with TestClient(app, base_url="http://127.0.0.1:8400") as client:
        yield client


def test_the_episodes_of_a_task_are_listed_over_all_its_trees(of_others: TestClient) -> None:
    first, second = (tree["id"] for tree in of_others.get("/api/trees").json()["trees"])
    listed = of_others.get(f"/api/trees/{first}/episodes").json()
    assert listed == of_others.get(f"/api/trees/{second}/episodes").json()
    shown = {each["name"]: (each["model"], each["steps"], each["outcome"], each["value"]) for each in listed}
    assert shown == {"won": ("good", 2, 1.0, 2.0), "lost": ("bad", 2, 0.0, -1.0), "sly": ("bad", 1, 0.0, None)}
    (stage,) = [stage for stage in of_others.get("/api/run").json()["stages"] if stage["name"] == "trees"]
    assert (stage["state"], stage["command"], stage["figures"]["episodes"]) == ("done", "agentrm import", 3)


def test_an_episode_is_a_conversation_with_a_value_at_each_step(of_others: TestClient, imported: Path) -> None:
    def episode(name: str) -> dict:
        tree = of_others.get("/api/trees").json()["trees"][0]["id"]
        listed = of_others.get(f"/api/trees/{tree}/episodes").json()
        return of_others.get(f"/api/episodes/{next(each['id'] for each in listed if each['name'] == name)}").json()

    won, lost, sly = map(episode, ("won", "lost", "sly"))
    assert (won["values"], won["scored_by"]) == ([0.25, 0.5, 2.0], "values.parquet")
    assert lost["values"] == [0.25, 0.5, -1.0] and sly["values"] is None
    (stored,) = won["stored"]
    assert stored == {
        "file": str(imported / "log.jsonl"),
        "line": 1,
        "id": "won",
        "model": "good",
        "outcome": 1.0,
        "side": "",
    }
    assert [(step["text"], step["answers"]) for step in won["steps"]] == [
        ("", [["instruction and first observation", "Add <b>2</b> and 2."]]),
        ("2 + 2", [["observation", "Well?"]]),
        ("It is 4.", []),
    ]
    # Half of the episodes through the first step were won.
    assert [(step["visits"], step["value"]) for step in won["steps"]] == [(2, 0.5), (2, 0.5), (1, 1.0)]
    assert [step["node"] for step in won["steps"]][:2] == [step["node"] for step in lost["steps"]][:2]
    assert sly["steps"][0]["answers"] == [["system", "Be sly."], ["instruction and first observation", "Go."]]


def test_values_are_those_of_what_an_episode_says_now(of_others: TestClient, imported: Path, tmp_path: Path) -> None:
    """The file of values is of another version of the log, in a directory that has moved."""
    moved = tmp_path / "moved" / "log.jsonl"
    moved.parent.mkdir()
    changed = (imported / "log.jsonl").read_text().replace("It is 5.", "It is fifty.")
    moved.write_text(changed)
    importing.run(load("imported", [f"run={tmp_path / 'run'}"]), [str(moved)])
    app = create_app(RunDirectory.existing(tmp_path / "run"), values=imported / "values.parquet")
    with TestClient(app, base_url="http://127.0.0.1:8400") as client:
        tree = client.get("/api/trees").json()["trees"][0]["id"]
        listed = client.get(f"/api/trees/{tree}/episodes").json()
    assert {each["name"]: each["value"] for each in listed} == {"won": 2.0, "lost": None, "sly": None}


def test_exported_episodes_that_were_scored_are_known_by_their_id(root: Path, tmp_path: Path) -> None:
    write(TreeStore(root / "trees").trees(), "openai", str(tmp_path / "exported"))
    scored = [each for each in read(found([str(tmp_path / "exported")]), Episodes()) if isinstance(each, Episode)]
    (best,) = [each for each in scored if each.id == f"{SMALL.id}/2"]
    table = ValueTable(tmp_path / "values.jsonl", "a-model")
    table.add(rows(best, Values([0.25, 0.75]), "a-model"))
    table.commit({best.file}, {key(best)})
    app = create_app(RunDirectory.existing(root), values=tmp_path / "values.jsonl")
    with TestClient(app, base_url="http://127.0.0.1:8400") as client:
        listed = client.get(f"/api/trees/{SMALL.id}/episodes").json()
        assert {each["id"].rpartition("/")[2]: each["value"] for each in listed} == {"2": 0.75, "3": None, "4": None}
        assert client.get(f"/api/episodes/{SMALL.id}/2").json()["values"] == [0.25, 0.75]
        assert client.get(f"/api/episodes/{SMALL.id}/9").status_code == 404


def test_a_model_that_is_named_is_asked_in_place_of_the_runs(
    imported: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = tmp_path_factory.mktemp("model") / "model"
    write_reward_model(model, [message["content"] for row in EPISODES for message in row["messages"]] * 9, 256)
    run = RunDirectory.existing(imported / "run")
    with TestClient(create_app(run, str(model)), base_url="http://127.0.0.1:8400") as client:
        (tree,) = [tree["id"] for tree in client.get("/api/trees").json()["trees"] if tree["ended"] == 2]
        values = f"/api/episodes/{tree}/2/values"
        assert client.get(values).json() == {"available": True, "asked": False, "values": [], "error": ""}
        answer = client.post(values).json()
        nodes = [step["node"] for step in client.get(f"/api/episodes/{tree}/2").json()["steps"]]
        while len(answer["values"]) < len(nodes):
            assert not answer["error"]
            time.sleep(0.05)
            answer = client.get(values).json()
        assert client.get(f"/api/trees/{tree}/values").json()["asked"] is False
    renderer = Renderer.from_pretrained(model, 256)
    scorer = AutoModelForSequenceClassification.from_pretrained(model).eval()
    own = from_table(TreeStore(run.at("trees")).table(tree))
    expected = raw_values(scorer, [renderer.ids(own.state(node).conversation()) for node in nodes])
    assert answer["values"] == pytest.approx(expected) and len(set(expected)) == len(nodes) > 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "absent"}, "holds no reward model"),
        ({"values": Path("absent.parquet")}, "there is no absent.parquet"),
        ({"values": Path("log.txt")}, "must end in .parquet or .jsonl"),
    ],
)
def test_what_was_named_and_is_not_there_is_told_at_the_start(imported: Path, options: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        create_app(RunDirectory.existing(imported / "run"), **options)


def test_demonstrations_are_counted_over_all_kinds(root: Path, client: TestClient) -> None:
    (root / "demonstrations").mkdir()
    (root / "metrics").mkdir()
    counts = {"babyai.goto_local": {"kept": 4}, "maze.perfect_small": {"kept": 2, "no_oracle": 1}}
    (root / "metrics" / "demonstrations.json").write_text(json.dumps(counts))
    stage = client.get("/api/run").json()["stages"][0]
    assert stage["state"] == "done" and stage["figures"] == {"kept": 6, "no_oracle": 1}


def test_recorded_conversations_stand_beside_trees_with_what_was_not_taken(root: Path, recordings: Path) -> None:
    app = create_app(RunDirectory.existing(root), recorded=str(recordings))
    first, second = (f"gateway.{name}.recorded.0.0" for name in ("first", "second"))
    with TestClient(app, base_url="http://127.0.0.1:8400") as client:
        listed = client.get("/api/trees", params={"text": "gateway"}).json()
        assert [each["id"] for each in listed["trees"]] == [first, second] and listed["total"] == 2
        assert [(each["nodes"], each["value"], each["best"]) for each in listed["trees"]] == [
            (5, 1, 1),
            (3, None, None),
        ]
        tree = client.get(f"/api/trees/{first}").json()
        assert tree["columns"]["parent"] == [-1, 0, 0, 2, 3]
        assert tree["columns"]["action"][1:] == ["To the wall.", 'move({"to": "door"})', "I open it.", "Thanks."]
        assert tree["columns"]["estimate"] == [None, 0.25, 0.75, None, None]
        assert tree["columns"]["outcome"] == [None, None, None, None, 1.0]
        assert tree["untaken"] == [1] and tree["most_visited"] == tree["highest_value"] == [0, 2, 3, 4]
        assert client.get(f"/api/trees/{second}").json()["untaken"] == [1]
        steps = client.get(f"/api/trees/{first}/path/4").json()
        assert [each["answers"] for each in steps[1:]] == [
            [["tool", "A door."]],
            [["observation", "Well done."]],
            [],
        ]
        assert client.get(f"/api/trees/{first}/matches", params={"text": "wall"}).json() == [1]
        assert client.get("/api/trees/gateway.first.recorded.1.0").status_code == 404
        assert client.get("/api/trees").json()["total"] == 4
        with (recordings / "third.jsonl").open("w") as file:
            file.write(
                '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "turns": [], "tools": []}\n'
            )
        broken = client.get("/api/trees/gateway.third.recorded.0.0")
        assert broken.status_code == 409 and "cannot be shown" in broken.json()["error"]["message"]
        (recordings / "third.jsonl").unlink()


def test_turns_that_a_search_did_not_take_are_told(root: Path, client: TestClient) -> None:
    tree = Tree.of(State.begin(Task("maze", "perfect_small", "train", 9), "A maze."))
    for action in ("left", "right"):
        node = tree.add(0, Proposal(action, action), None)
        tree.back_up(node, 0.5, 1.0)
    tree.answer(node, Observation("A wall."))
    TreeStore(root / "trees").write(tree)
    assert client.get(f"/api/trees/{tree.id}").json()["untaken"] == [1]

"""Test-time searches on a real cluster, engines and environment: the live command, an evaluation, the benchmarks of
search and of scoring.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ray import serve
from transformers import AutoModelForSequenceClassification

from agentrm.config.loading import changed, load
from agentrm.config.schema import Config, Method
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.trees import TreeStore
from agentrm.evaluation.evaluator import methods
from agentrm.models import explicit
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from jobs import evaluate, search
from jobs.benchmarks import score as benchmark_score
from jobs.benchmarks import search as benchmark_search
from tests.servers import free_port

TINY = str(Path(__file__).with_name("tiny.yaml"))
TEXT = "The goal is at position 3, 4. Your current position is at position 1, 2. There are walls above you. move up"
MAZES = "[{environment: maze, kinds: [perfect_small], split: test, count: 2}]"
TASK = "maze.perfect_small.test.1.0"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run whose policy and reward model were never trained."""
    run = tmp_path_factory.mktemp("search") / "run"
    growing = "[{environment: maze, kinds: [perfect_small], count: 3}]"
    sets = f"tasks.trees={growing}", f"tasks.held_in={MAZES}", "tasks.held_out_kinds=[]"
    config = load(TINY, [f"run={run}", *sets, "evaluate.max_depth=3", "evaluate.likelihood=0.125"])
    directory = RunDirectory.open(config)
    with directory.writing("policy") as policy:
        prepare(config.model, [TEXT] * 9, 0, policy)
    explicit.build(directory.path("policy"), directory.path("reward_model"))
    # A head whose values differ: an untrained one answers 0.
    reward = AutoModelForSequenceClassification.from_pretrained(directory.path("reward_model"))
    torch.nn.init.normal_(reward.score.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    reward.save_pretrained(directory.path("reward_model"))
    return config


def test_a_search_is_shown_and_its_tree_is_stored(config: Config, capsys: pytest.CaptureFixture[str]):
    result = search.run(config, TASK, Method.beam)
    shown = capsys.readouterr().out
    assert "plus 0.125 of the log-probability" in shown
    assert shown.startswith(f"{TASK}: beam 2x2\n") and "round 3:" in shown
    assert shown.index("chosen") < shown.index("the truth, which the search could not see") < shown.index("outcome ")
    (tree,) = TreeStore(Path(config.run) / "searches" / "beam").trees()
    assert tree.task.id == TASK and len(tree.nodes) == len(result.tree.nodes)
    states = [(tree.state(i), node.estimate) for i, node in enumerate(tree.nodes) if node.estimate is not None]
    model = AutoModelForSequenceClassification.from_pretrained(Path(config.run) / "reward_model")
    renderer = Renderer.from_pretrained(Path(config.run) / "reward_model", config.model.context)
    values = explicit.raw_values(model, [renderer.ids(state.conversation().messages) for state, _ in states])
    sampled = [sum(step.proposal.logprob for step in state.steps) for state, _ in states]
    assert min(sampled) < 0
    expected = [value + 0.125 * logprob for value, logprob in zip(values, sampled, strict=True)]
    assert len(states) == result.cost.scored_states
    read = sum(len(renderer.ids(state.conversation().messages)) for state, _ in states)
    assert result.cost.reward_tokens + result.cost.cached_tokens == read and result.cost.cached_tokens > 0
    assert [estimate for _, estimate in states] == pytest.approx(expected, abs=1e-4)


def test_an_evaluation_runs_what_is_missing(config: Config):
    settings = replace(config.evaluate, methods=[Method.best_of_n, Method.dvts])
    first = evaluate.run(replace(config, evaluate=settings))["held-in"]
    assert list(first) == methods(settings) and "dvts 2x2, random scores" in first
    done = Path(config.run) / "work" / "evaluation" / f"{TASK}.json"
    before = json.loads(done.read_text())
    (Path(config.run) / "evaluation").rename(Path(config.run) / "before")
    settings = replace(
        settings, methods=[*settings.methods, Method.mcts_puct, Method.lookahead, Method.judge], iterations=4
    )
    second = evaluate.run(replace(config, evaluate=settings))["held-in"]
    assert list(second) == methods(settings) and {*first} < {*second}
    after = json.loads(done.read_text())
    assert after[: len(before)] == before and len(after) == len(before) + 7
    # An untrained policy names no attempt.
    judged = next(row for row in after if row["method"] == "judged best of 2")
    assert judged["asked"] == judged["malformed"] + judged["overflows"] == 2
    assert "questions to the judge" in (Path(config.run) / "evaluation" / "report.md").read_text()


@pytest.mark.benchmark
def test_the_benchmark_of_searching(config: Config, capsys: pytest.CaptureFixture[str]):
    benchmark_search.run(config, episodes=2, as_json=True)
    figures = json.loads(capsys.readouterr().out)
    assert figures["episodes"] == 2 and figures["policy_requests"] > 0 and figures["scored_states"] > 0
    assert figures["of_replay"] == pytest.approx(max(figures["limit"].values()) / figures["seconds"])
    assert figures["speedup_transformers"] == pytest.approx(sum(figures["transformers"].values()) / figures["seconds"])
    assert all(figures["transformers"][part] > 0 for part in ("policy_seconds", "reward_seconds"))


def tree(index: int) -> Tree:
    """Two episodes of three turns."""
    nodes = [Node(-1, 0, TEXT, visits=2, value=0.5)]
    for action in ("move up", "move down"):
        for depth in range(1, 4):
            parent = len(nodes) - 1 if depth > 1 else 0
            nodes.append(Node(parent, depth, f"you are at {index}, {depth}", action, text=action, visits=1, value=0.5))
    return Tree(Task("maze", "perfect_small", "train", index), nodes)


@pytest.mark.benchmark
def test_the_benchmark_of_scoring(config: Config, capsys: pytest.CaptureFixture[str]):
    # As an evaluation leaves it: a cluster whose Ray Serve runs without HTTP.
    serve.start(proxy_location="Disabled")
    config = changed(config, [f"serve.port={free_port()}", "serve.max_conversations=2"])
    store = TreeStore(RunDirectory.existing(config.run).path("trees"))
    for index in range(3):
        store.write(tree(index))
    benchmark_score.run(config, trees=3, clients=3, seconds=1, as_json=True)
    figures = json.loads(capsys.readouterr().out)
    # The last of the trees is kept for the new states.
    first, second, _ = store.trees()
    renderer = Renderer.from_pretrained(Path(config.run) / "reward_model", 10**6)
    lengths = [
        len(renderer.ids(each.state(i).conversation().messages))
        for each in (first, second)
        for i in range(len(each.nodes))
    ]
    assert figures["states"] == sum(length <= config.model.context for length in lengths) > 0
    assert figures["clients"] == 3 and figures["answered"] > 0 and figures["lost"] == figures["states_lost"] == 0
    rates = {name: figures[f"{name}_states_per_s"] for name in ("http", "engine", "transformers")}
    assert figures["http_of_engine"] == pytest.approx(rates["http"] / rates["engine"])
    assert figures["speedup_transformers"] == pytest.approx(rates["http"] / rates["transformers"])
    assert figures["incremental_ratio"] == pytest.approx(figures["p50_ms"] / figures["engine_ms"])

"""Tree building on a real cluster, engine and environment, with every part of the search on; its benchmark."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from transformers import AutoModelForSequenceClassification

from actors import metrics
from actors.environments import RemoteSessions, start_environments
from actors.fleet import Fleet, Size
from actors.policy import RemoteGenerator
from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.core.errors import ModelError
from agentrm.core.task import Task
from agentrm.data.trees import TreeStore, to_table
from agentrm.models import explicit
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from jobs import clone, tree_statistics, trees
from jobs.benchmarks import trees as benchmark_trees
from jobs.runtime import execute
from tests.integration.fragile import FragileReplica
from tests.servers import free_port, serving

TINY = str(Path(__file__).with_name("tiny.yaml"))
_MAZES = "[{environment: maze, kinds: [perfect_small], count: 3}]"
_TEXT = "The goal is at position 3, 4. Your current position is at position 1, 2. There are walls above you. move up"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run whose policy and reward model were never trained."""
    root = tmp_path_factory.mktemp("trees")
    config = load(
        TINY,
        [
            f"run={root / 'run'}",
            f"tasks.trees={_MAZES}",
            f"trees.bootstrap={root / 'values'}",
            "trees.rollout_steps=1",
            "trees.merge_states=true",
            "trees.selection=puct",
            "trees.trees_per_task=2",
        ],
    )
    with RunDirectory.open(config).writing("policy") as policy:
        prepare(config.model, [_TEXT] * 9, 0, policy)
    explicit.build(policy.with_name("policy"), root / "values")
    # A head whose values are spread within [0, 1]: an untrained one answers 0.
    reward = AutoModelForSequenceClassification.from_pretrained(root / "values")
    torch.nn.init.normal_(reward.score.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    ids = Renderer.from_pretrained(root / "values", 512).ids([{"role": "user", "content": _TEXT}])
    with torch.no_grad():
        reward.score.weight *= math.copysign(1.0, explicit.raw_values(reward, [ids])[0])
    reward.save_pretrained(root / "values")
    return config


@pytest.fixture(scope="module")
def store(config: Config) -> TreeStore:
    trees.run(config)
    return TreeStore(Path(config.run) / "trees")


def test_two_trees_of_every_task_with_values_of_the_reward_model(store: TreeStore, config: Config):
    grown = list(store.trees())
    assert len(grown) == 6 and {tree.number for tree in grown} == {0, 1}
    assert len({tree.task for tree in grown}) == 3
    estimated = [(tree.state(i), node.estimate) for tree in grown for i, node in enumerate(tree.nodes) if node.estimate]
    model = AutoModelForSequenceClassification.from_pretrained(config.trees.bootstrap)
    renderer = Renderer.from_pretrained(config.trees.bootstrap, config.model.context)
    expected = explicit.raw_values(model, [renderer.ids(state.conversation().messages) for state, _ in estimated])
    assert expected and [estimate for _, estimate in estimated] == pytest.approx(expected, abs=1e-4)
    # An untrained policy writes no action, so the mazes stay as they are and all its turns lead to one state.
    assert all(len(tree.nodes[0].children) == 1 and tree.nodes[1].merged >= 2 for tree in grown)


def test_prometheus_can_read_what_was_counted(store: TreeStore):
    """Ray's agent exports what all processes of its node have counted, some seconds later."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    panels = json.loads(Path(metrics.__file__).with_name("grafana.json").read_text())["panels"]
    named = set(re.findall(r"ray_agentrm_\w+", " ".join(panel["targets"][0]["expr"] for panel in panels)))
    deadline = time.monotonic() + 300
    while not (
        trees_counted := re.search(r'^ray_agentrm_trees\w*{.*environment="maze".*} 6', text := _read(url), re.M)
    ):
        assert time.monotonic() < deadline, text[-2000:]
        time.sleep(1)
    assert trees_counted
    absent = {name for name in named if f"# TYPE {name}" not in text}
    never = {"ray_agentrm_environment_errors", "ray_agentrm_engine_errors", "ray_agentrm_malformed"}
    assert absent <= never, "there was something of all others to count"


def test_two_engines_share_the_work_one_that_dies_is_replaced_and_environments_yield(store: TreeStore, config: Config):
    """What it held fails; what is asked for later waits for its successor, or goes to the other."""
    policy = RunDirectory.existing(config.run).at("policy")
    stop_ids = Renderer.from_pretrained(policy, config.model.context).stop_ids
    arguments = (policy, config.policy_engine, config.sampling, config.model.context, stop_ids, config.seed)

    async def ask(replicas: Fleet) -> None:
        generator = RemoteGenerator(replicas)
        # All tasks begin with the same instructions.
        prompts = [[*range(5, 70), task, 6] for task in range(100, 116)]

        async def said(prompt: list[int]) -> list[list[int]] | ModelError:
            try:
                return [each.ids for each in await generator.generate(prompt, 2, False, 0)]
            except ModelError as error:
                return error

        first = await asyncio.gather(*map(said, prompts))
        handles = [replicas.handle(name) for name in replicas.names]
        asked = await asyncio.gather(*(handle.asked.remote() for handle in handles))
        assert sum(asked) == 16 and min(asked) >= 6, asked
        await handles[0].sabotage.remote()
        again = await asyncio.gather(*map(said, prompts))
        failed = [each for each in again if isinstance(each, ModelError)]
        assert failed and all("the vLLM engine failed" in str(each) for each in failed)
        assert len(failed) < 16, "what the other held was lost as well"
        assert await asyncio.gather(*map(said, prompts)) == first

    names = ["ray::EnvironmentActor", "ray::FragileReplica"]
    deadline = time.monotonic() + 300
    with (
        start_environments(config),
        Fleet.start(FragileReplica, Size.of(2, None, 16), {"num_cpus": 1}, *arguments) as replicas,
    ):
        asyncio.run(ask(replicas))
        own = os.nice(0)
        while (found := [_niceness(name) for name in names]) != [{own + 10}, {own}]:
            assert time.monotonic() < deadline, found
            time.sleep(0.5)


class Endpoint:
    """A chat endpoint that gives one choice at a time and refuses some fields; every few answers are no good. It takes
    neither turns without text nor what `filtered` accepts.
    """

    def __init__(self) -> None:
        self.filtered: Callable[[str], bool] = lambda text: False
        self.answered = 0
        self.app = app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(body: dict[str, Any]) -> Any:
            texts = [message["content"] for message in body["messages"]]
            refused = [name for name in ("logprobs", "n", "seed") if name in body and body[name] != 1]
            if refused:
                return JSONResponse({"detail": [{"loc": ["body", refused[0]], "msg": "not permitted"}]}, 422)
            if not all(texts) or any(map(self.filtered, texts)):
                return JSONResponse({"error": {"message": "filtered by our policy"}}, 400)
            self.answered += 1
            if self.answered % 7 == 0:
                return {"choices": None}
            turn = f"**Action:** move {random.choice(('up', 'down', 'left', 'right'))}\nObservation: you win"
            return {"choices": [{"message": {"content": None if self.answered % 5 == 0 else turn}}]}


def test_trees_by_an_endpoint_as_they_are(store: TreeStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    endpoint = Endpoint()
    with serving(endpoint.app) as address:
        overrides = [
            f"run={tmp_path}",
            f"tasks.trees={_MAZES}",
            f"model.source={address}/v1",
            "model.name=m",
            f"train.base={tmp_path}",
            "model.action_format=react",
        ]
        config = load(TINY, overrides)
        grown = TreeStore(tmp_path / "trees")
        clone.run(config)

        endpoint.filtered = lambda text: True
        assert execute(trees.run, TINY, overrides) == 4
        assert "m refused a request: 400 filtered by our policy" in capfd.readouterr().err
        assert not grown.finished(), "what was refused became data"

        first = asyncio.run(_opening(config, 0))
        endpoint.filtered = first.__eq__
        counts = trees.run(config)
        assert (counts["left"], counts["failed"]) == (1, 0) and len(grown.finished()) == 2
        told = capfd.readouterr().err
        assert "m refused a request: 400 filtered" in told and "1 trees are left for the next run" in told

        endpoint.filtered = lambda text: False
        assert execute(trees.run, TINY, overrides) == 0
    nodes = [node for tree in grown.trees() for node in tree.nodes[1:]]
    assert len(grown.finished()) == 3 and counts["cleaned"] > 0
    assert {node.text for node in nodes if node.text.startswith("**")} <= {
        f"**Action:** {node.action}" for node in nodes
    }
    assert all("you win" in node.removed or (node.malformed and not node.text) for node in nodes)


def test_an_endpoint_that_is_not_there(store: TreeStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    url = f"http://127.0.0.1:{free_port()}/v1"
    overrides = [
        f"run={tmp_path}",
        f"tasks.trees={_MAZES}",
        f"model.source={url}",
        "model.name=m",
        f"train.base={tmp_path}",
    ]
    clone.run(load(TINY, overrides))
    assert execute(trees.run, TINY, overrides) == 4
    assert f"m did not answer at {url}" in capfd.readouterr().err
    assert not TreeStore(tmp_path / "trees").finished()


async def _opening(config: Config, index: int) -> str:
    with start_environments(config) as hosts:
        return (await RemoteSessions(hosts).observe(Task("maze", "perfect_small", "train", index), ())).text


def test_hosts_leave_no_files(store: TreeStore, config: Config):
    with start_environments(config) as hosts:
        asyncio.run(RemoteSessions(hosts).observe(Task("maze", "perfect_small", "train", 0), ()))
        session = ray.get_runtime_context().get_session_name()
        children = [
            each for each in psutil.process_iter() if "environments.hosting.process" in " ".join(each.cmdline())
        ]
        ours = [each for each in children if session in " ".join(each.parent().parent().cmdline())]
        files = {Path(each.environ()["TMPDIR"]) for each in ours}
        assert files and all(each.is_dir() for each in files)
    assert not any(each.exists() for each in files)


def _niceness(name: str) -> set[int]:
    """Of this cluster's processes of a name; other clusters may be on the machine."""
    session = ray.get_runtime_context().get_session_name()
    found = {each.pid: each.info for each in psutil.process_iter(["cmdline", "nice", "ppid"])}
    lines = {pid: " ".join(info["cmdline"] or ()) for pid, info in found.items()}
    return {
        info["nice"]
        for pid, info in found.items()
        if lines[pid].startswith(name) and session in lines.get(info["ppid"], "")
    }


def _read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def test_ray_data_reads_it(store: TreeStore):
    rows = sum(to_table(tree).num_rows for tree in store.trees())
    assert ray.data.read_parquet(store.root).count() == rows


def test_the_statistics_of_a_run(store: TreeStore, config: Config, capsys: pytest.CaptureFixture[str]):
    found = tree_statistics.run(config)
    assert list(found) == ["maze, train"] and found["maze, train"].trees == 6
    printed = capsys.readouterr().out
    assert "duplicate turns merged" in printed and "value 0.9 to 1.0" in printed


@pytest.mark.benchmark
def test_the_benchmark(store: TreeStore, config: Config, capsys: pytest.CaptureFixture[str]):
    benchmark_trees.run(config, trees=2, seconds=1, as_json=True)
    figures = json.loads(capsys.readouterr().out)
    ours, one, plain = figures["arms"]
    assert ours["trees"] == 2 and one["trees"] >= 1 and plain["trees"] >= 1
    assert figures["limit"]["requests"] > 0 and figures["limit"]["tokens"] == ours["tokens"]
    assert figures["saturation"] > 0 and figures["speedup_serial"] > 0 and figures["speedup_transformers"] > 0
    assert figures["steps_per_edge"] == pytest.approx(ours["steps"] / ours["edges"])
    assert figures["steps_per_second"] == pytest.approx(ours["steps"] / ours["seconds"])

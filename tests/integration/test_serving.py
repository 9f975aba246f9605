"""The reward model behind a real Ray Serve with a real vLLM engine: same values as transformers, refusals, the key, and
nothing lost while replicas die and models change.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
import ray
import torch
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from actors.serving import ServedRewardModel, application, deployed
from agentrm.cluster.description import read
from agentrm.cluster.kuberay import API_KEY, Target, ray_service
from agentrm.config.loading import load as load_config
from agentrm.config.schema import Cluster, Config, Engine, Model, Serve
from agentrm.core.errors import ModelError, UserError
from agentrm.core.messages import Conversation
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.models.scorers import Per
from agentrm.rendering.renderer import Renderer
from agentrm.service.client import AsyncScoringClient
from tests.names import NASTIEST
from tests.reward_models import write_reward_model
from tests.servers import free_port

CONTEXT = 256
KEY = {"Authorization": "Bearer right-key"}
CONVERSATIONS = [
    [{"role": "user", "content": "Your task: go to the red ball."}],
    [
        {"role": "user", "content": "Your task: open the box. You see a box."},
        {"role": "assistant", "content": "Thought: it is near.\nAction: open box"},
        {"role": "user", "content": "The box is open. " * 4},
    ],
    [
        {"role": "user", "content": "Your task: open the box. You see a box."},
        {"role": "assistant", "content": "turn left"},
    ],
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / NASTIEST
    write_reward_model(path, [message["content"] for each in CONVERSATIONS for message in each], CONTEXT)
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    port = free_port()
    return Config(
        run=str(tmp_path_factory.mktemp("run") / NASTIEST),
        model=Model(context=CONTEXT),
        reward_engine=Engine(kv_cache_gib=0.05),
        serve=Serve(port=port, api_key="right-key", max_conversations=4),
        cluster=Cluster(cpus=4, object_store_gib=0.1),
    )


@pytest.fixture(scope="module")
def served(config: Config, directory: Path) -> Iterator[ServedRewardModel]:
    with deployed(config, directory, http=True) as scorers:
        yield ServedRewardModel(scorers)


@pytest.fixture
def client(served: ServedRewardModel, config: Config) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{config.serve.port}", headers=KEY, timeout=180) as client:
        yield client


@pytest.fixture(scope="module")
def expected(directory: Path) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        return [
            model(**tokenizer.apply_chat_template(each, return_tensors="pt", return_dict=True)).logits.item()
            for each in CONVERSATIONS
        ]


def post(client: httpx.Client, conversations: object) -> httpx.Response:
    return client.post("/v1/score", json={"conversations": conversations})


def test_scores_equal_transformers(client: httpx.Client, expected: list[float]) -> None:
    assert max(expected) - min(expected) > 0.1
    response = post(client, CONVERSATIONS)
    assert response.status_code == 200
    assert response.json()["scores"] == pytest.approx(expected, abs=1e-3)
    alone = [post(client, [each]).json()["scores"][0] for each in reversed(CONVERSATIONS)]
    assert alone == pytest.approx(expected[::-1], abs=1e-3)


def test_models_and_health(client: httpx.Client, config: Config) -> None:
    model = client.get("/v1/models").json()["data"][0]
    assert model == {"id": f"agentrm-{Path(config.run).name}", "object": "model", "context": CONTEXT, "learned": []}
    acted = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "go"}]
    assert post(client, [acted]).json()["at"] == ["action"]
    assert post(client, CONVERSATIONS).json()["model"] == model["id"]
    assert httpx.get(f"{client.base_url}/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "right-key"}])
def test_the_key_is_required(served: ServedRewardModel, config: Config, headers: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{config.serve.port}"
    assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 401
    assert httpx.post(f"{url}/v1/score", content=b"not json", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("conversations", "status", "told"),
    [
        ([], 422, "conversations"),
        ([[]], 422, "conversations.0"),
        ("text", 422, "conversations"),
        ([[{"role": "robot", "content": "hi"}]], 422, "messages[0].role is 'robot'"),
        ([[{"role": "user", "content": [{"type": "image_url"}]}]], 422, "messages[0].content[0].type is 'image_url'"),
        ([[{"role": "user"}]], 422, "messages[0].content is missing"),
        ([[{"role": "user", "content": "hi", "weight": 1}]], 422, "messages[0].weight is no field"),
        ([[{"role": "user", "content": "ball " * 400}]], 422, f"the model's context is {CONTEXT}"),
        ([CONVERSATIONS[0]] * 5, 413, "at most 4"),
        ([[{"role": "user", "content": "x" * 20_000}]], 413, "larger than 16384 bytes"),
    ],
)
def test_bad_requests_are_named(client: httpx.Client, conversations: object, status: int, told: str) -> None:
    response = post(client, conversations)
    assert response.status_code == status
    assert told in json.dumps(response.json()["error"])


def test_http_listens_where_it_is_told_and_nowhere_else(served: ServedRewardModel, config: Config) -> None:
    proxies = [each for each in psutil.process_iter(["name"]) if each.info["name"] == "haproxy"]
    listening = [
        {tuple(each.laddr) for each in proxy.net_connections("inet") if each.status == psutil.CONN_LISTEN}
        for proxy in proxies
    ]
    here = ("127.0.0.1", config.serve.port)
    proxy, sockets = next((each, found) for each, found in zip(proxies, listening, strict=True) if here in found)
    assert sockets == {here}
    files = Path(proxy.cmdline()[proxy.cmdline().index("-f") + 1]).parent
    assert files.stat().st_mode & 0o077 == 0


def test_a_second_service_does_not_claim_to_listen_elsewhere(
    served: ServedRewardModel, config: Config, directory: Path, tmp_path: Path
) -> None:
    port = free_port()
    other = replace(config, run=str(tmp_path), serve=replace(config.serve, port=port))
    told = f"cannot listen on 127.0.0.1:{port}: this cluster's Ray Serve runs at 127.0.0.1:{config.serve.port} for "
    with pytest.raises(UserError, match=re.escape(told + application(config))), deployed(other, directory, http=True):
        pass


def test_unknown_paths_and_methods_are_json(client: httpx.Client) -> None:
    assert client.get("/v2").status_code == 404
    assert client.get("/v1/score").status_code == 405
    assert client.get("/v1/score").json()["error"]["message"]


async def test_the_handle_scores_states(served: ServedRewardModel, expected: list[float]) -> None:
    task = Task("toy", "any", "train", 0)
    first = State.begin(task, CONVERSATIONS[0][0]["content"])
    start = State.begin(task, CONVERSATIONS[1][0]["content"])
    second = start.extend(
        Proposal(CONVERSATIONS[1][1]["content"], "open box"), Observation(CONVERSATIONS[1][2]["content"])
    )
    assert await served.score([]) == []
    values = await served.score([first, second] * 70)
    assert values == pytest.approx(expected[:2] * 70, abs=1e-3)


async def test_a_state_that_does_not_fit_is_never_preferred(served: ServedRewardModel) -> None:
    task = Task("toy", "any", "train", 0)
    short, long = State.begin(task, "ball"), State.begin(task, "ball " * 400)
    fits, overflow, again = await served.score([short, long, short])
    assert fits == again > overflow == float("-inf")


def test_a_policy_is_no_reward_model(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with (
        pytest.raises(ModelError, match="LlamaForCausalLM, not a reward model"),
        deployed(config, tmp_path, http=False),
    ):
        pass
    with pytest.raises(ModelError, match=r"config\.json"), deployed(config, tmp_path / "absent", http=False):
        pass


def test_steps_ids_and_the_forms_of_vllm(client: httpx.Client, directory: Path, expected: list[float]) -> None:
    first, values = client.post("/v1/score", json={"conversations": CONVERSATIONS[:2], "per": "step"}).json()["scores"]
    assert first == pytest.approx(expected[:1], abs=1e-3)
    assert len(values) == 2 and values[1] == pytest.approx(expected[1], abs=1e-3)
    renderer = Renderer.from_pretrained(directory, CONTEXT)
    ids = [renderer.ids(each) for each in CONVERSATIONS]
    assert client.post("/v1/score", json={"token_ids": ids}).json()["scores"] == pytest.approx(expected, abs=1e-3)
    text = renderer.tokenizer.apply_chat_template(CONVERSATIONS[1], tokenize=False)
    answer = client.post("/classify", json={"input": text, "add_special_tokens": False}).json()
    assert answer["data"][0]["probs"] == pytest.approx(expected[1:2], abs=1e-3)
    refused = client.post("/v1/score", json={"token_ids": [[1, 5000]]})
    assert refused.status_code == 422 and "vocabulary" in refused.json()["error"]["message"]


@asynccontextmanager
async def load(config: Config, found: list[list[float]]) -> AsyncIterator[None]:
    """Six clients that score the conversations again and again, each trying once more at most."""
    ended = asyncio.Event()

    async def ask(http: AsyncScoringClient) -> None:
        while not ended.is_set():
            found.append(await http.score(CONVERSATIONS))

    async with AsyncScoringClient(f"http://127.0.0.1:{config.serve.port}", "right-key", retries=1) as http:
        asking = [asyncio.create_task(ask(http)) for _ in range(6)]
        yield
        before = len(found)
        while len(found) < before + 20:
            assert not any(task.done() for task in asking), "a client was refused"
            await asyncio.sleep(0.05)
        ended.set()
        await asyncio.gather(*asking)


async def test_a_killed_replica_loses_no_request(
    served: ServedRewardModel, config: Config, expected: list[float]
) -> None:
    found: list[list[float]] = []
    state = State.begin(Task("toy", "any", "train", 0), CONVERSATIONS[0][0]["content"])

    async def ask_the_handle() -> None:
        while len(found) < 40:
            assert await served.score([state] * 70) == pytest.approx(expected[:1] * 70, abs=1e-3)

    async with asyncio.TaskGroup() as group, load(config, found):
        group.create_task(ask_the_handle())
        while len(found) < 20:
            await asyncio.sleep(0.05)
        replicas = [
            each for each in ray.util.list_named_actors(all_namespaces=True) if "#ScoringReplica#" in each["name"]
        ]
        assert len(replicas) == 1
        ray.kill(ray.get_actor(replicas[0]["name"], replicas[0]["namespace"]))
    assert all(values == pytest.approx(expected, abs=1e-3) for values in found)


async def test_an_update_to_two_replicas_loses_no_request_and_spreads_tasks(
    served: ServedRewardModel, config: Config, directory: Path, tmp_path: Path, expected: list[float]
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    with torch.no_grad():
        model.score.weight *= -1
    model.save_pretrained(tmp_path)
    Renderer.from_pretrained(directory, CONTEXT).tokenizer.save_pretrained(tmp_path)
    updated = replace(config, reward_engine=replace(config.reward_engine, replicas=2, max_replicas=3))
    found: list[list[float]] = []
    # What this process knows of the one replica is not to go on.
    await served.score([State.begin(Task("toy", "any", "train", 0), CONVERSATIONS[0][0]["content"])])
    async with load(config, found):
        update = deployed(updated, tmp_path, http=True)
        scorers = await asyncio.to_thread(update.__enter__)
    try:
        negated = [-value for value in expected]
        signs = [values == pytest.approx(negated, abs=1e-3) for values in found]
        old = [values for values, new in zip(found, signs, strict=True) if not new]
        assert old and all(values == pytest.approx(expected, abs=1e-3) for values in old)
        assert all(signs[-20:])
        states = _states(20)
        # Serve tells each handle of the replicas some time after they run.
        while len(replicas := scorers._replicas()) != 2:
            await scorers.read([Conversation(states[0])], Per.input)
        for replica in replicas:
            while len(set((await scorers._ask("place", replica, [str(n) * 128 for n in range(8)]))[1])) < 2:
                await asyncio.sleep(0.05)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{config.serve.port}", headers=KEY, timeout=180
        ) as http:
            usage = [(await http.post("/v1/score", json={"conversations": [each]})).json()["usage"] for each in states]
            cut = {"input": "go to the red ball " * 400, "truncate_prompt_tokens": -1, "truncation_side": "left"}
            assert (await http.post("/classify", json=cut)).json()["usage"]["prompt_tokens"] == CONTEXT
        tokens, cached = (sum(each[name] for each in usage) for name in ("prompt_tokens", "cached_tokens"))
        renderer = Renderer.from_pretrained(directory, CONTEXT)
        # Of prompts as short as these, few blocks are an episode's own.
        assert cached / tokens > _cached_by_one([renderer.ids(each) for each in states]) - 0.05
        held = []
        for replica in replicas:
            unseen = [Conversation([{"role": "user", "content": f"{replica} " * 20}])]
            (_, (once,)), (_, (again,)) = [await scorers._ask("read", replica, unseen, Per.input) for _ in range(2)]
            assert once.cached == 0 and again.cached > 32
            answers = [await scorers._ask("read", replica, [Conversation(each)], Per.input) for each in states[-20:]]
            held.append([score.cached > 4 * 32 for _, (score,) in answers])
        assert all(map(any, zip(*held, strict=True)))
        assert all(sum(each) > 6 for each in held)
        assert _running(updated) == 2

        # Serve adds the third by itself half a minute after its load has grown, and takes it away after ten.
        details = _get_global_client().get_serve_details()["applications"][application(updated)]["deployments"]
        scaling = details["ScoringReplica"]["deployment_config"]["autoscaling_config"]
        assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (2, 3, 8)
    finally:
        await asyncio.to_thread(update.__exit__, None, None, None)


def _states(tasks: int) -> list[list[dict[str, str]]]:
    """The first states of some tasks with the same instructions, then their second ones, then their third ones."""
    opening = "Your task: open the box. You see a box. " * 6
    episodes = [
        [
            {"role": "user", "content": f"{opening}It is box {number}{number} of {number}{number}{number}."},
            {"role": "assistant", "content": f"Thought: it is box {number}.\nAction: open box"},
            {"role": "user", "content": f"The box {number} is open. You see a ball. " * 3},
            {"role": "assistant", "content": "go to the red ball"},
            {"role": "user", "content": "The box is open. " * 4},
        ]
        for number in range(tasks)
    ]
    return [each[:length] for length in (1, 3, 5) for each in episodes]


def _cached_by_one(states: list[list[int]]) -> float:
    """The share of the tokens of states that one engine has read before, in its blocks of 32."""
    known: set[tuple[int, ...]] = set()
    cached = 0
    for ids in states:
        ends = range(32, len(ids), 32)
        cached += 32 * sum(tuple(ids[:end]) in known for end in ends)
        known.update(tuple(ids[:end]) for end in ends)
    return cached / sum(map(len, states))


def _running(config: Config) -> int:
    return (
        serve.status().applications[application(config)].deployments["ScoringReplica"].replica_states.get("RUNNING", 0)
    )


def test_the_rendered_service_runs_on_serve_and_has_the_secrets_key(
    served: ServedRewardModel, config: Config, directory: Path, expected: list[float]
) -> None:
    given = [f"serve.model={directory}", "run=/shared/runs/any", f"model.context={CONTEXT}"]
    given += ["reward_engine.kv_cache_gib=0.05", "tasks.seed=3"]
    preset = str(Path(__file__).with_name("tiny.yaml"))
    cluster = read(Path(__file__).parents[2] / "cluster.yaml")
    manifest = ray_service(cluster, Target("image", "default", "claim"), load_config(preset, given), preset, given)
    rendered = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    # The pods' environment and port; the service that the other tests started may still be there.
    rendered["applications"][0] |= {"route_prefix": "/again", "runtime_env": {"env_vars": {API_KEY: "from-secret"}}}
    del rendered["http_options"]
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(rendered), _blocking=True)
    try:
        url = f"http://127.0.0.1:{config.serve.port}/again/v1/score"
        body = {"conversations": CONVERSATIONS}
        assert httpx.post(url, json=body).status_code == 401
        answer = httpx.post(url, json=body, headers={"Authorization": "Bearer from-secret"}, timeout=180).json()
        assert answer["scores"] == pytest.approx(expected, abs=1e-3)
    finally:
        serve.delete(rendered["applications"][0]["name"])

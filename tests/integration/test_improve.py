"""`agentrm improve`: from recorded conversations with outcomes to a reward model that serves, cut on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.core.errors import UserError
from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore
from agentrm.run import RunDirectory
from agentrm.service.gateway.forms import Candidate, Chosen
from agentrm.service.gateway.recording import Recorder
from jobs import improve
from tests.integration.test_training_without_environments import CONFIG, LOOK_UP, STEPS, tree
from tests.reward_models import write_reward_model

BOTH = "train.labels.at=[state,action]"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Sessions of an agent that looks up the right page or the wrong one; of the last nobody has told the outcome."""
    folder = tmp_path / "recordings"

    async def record() -> None:
        recorder = Recorder(str(folder))
        for number in range(20):
            word = "wrong" if number % 2 else "right"
            messages = [{"role": "user", "content": f"question {number}"}]
            for step in range(1, STEPS + 1):
                call = {
                    "id": f"{word}{step}",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": json.dumps({"what": word})},
                }
                said = {"role": "assistant", "content": f"I look up the {word} page.", "tool_calls": [call]}
                request = {"model": "any", "messages": messages, "tools": [LOOK_UP]}
                await recorder.turn(f"s{number}", request, Chosen({}, [Candidate({"message": said})], [0.5], [0], {}))
                messages = [*messages, said, {"role": "tool", "tool_call_id": call["id"], "content": f"{word} page"}]
            if number < 19:
                await recorder.outcome(f"s{number}", float(word == "right"))

    asyncio.run(record())
    return folder


def test_a_round_that_was_cut_goes_on_and_ends_with_the_better_model_in_service(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "tiny.yaml"
    preset.write_text(f"run: {tmp_path / 'run'}\n{CONFIG}")
    config = load(str(preset), [BOTH, f"gateway.record={recordings}", "reward_engine.kv_cache_gib=0.05"])
    directory = RunDirectory.open(config)
    store = TreeStore(directory.at("trees"))
    for index in range(12):
        store.write(tree("web", index))
    write_reward_model(directory.path("reward_model"), _texts(store.trees()), config.model.context)
    assert directory.in_service() == directory.at("reward_model")

    with monkeypatch.context() as patch:
        patch.setattr(improve, "_values", interrupted)
        with pytest.raises(KeyboardInterrupt):
            improve.run(config)
    (begun,) = directory.improvements()
    assert directory.in_service() == directory.at("reward_model")
    weights = begun.path("reward_model") / "model.safetensors"
    written = weights.stat().st_mtime_ns

    found = improve.run(config)
    assert weights.stat().st_mtime_ns == written, "the fit was done again"
    assert found["improved"] and found["episodes"] == 19, found
    assert found["held_out"]["recorded"] and found["held_out"]["own"]
    for end in ("state", "action"):
        assert found["leads"][end]["brier"]["value"] > 0
    assert begun.metrics("train")["trees_learned"].keys() == {"gateway.recorded", "imported.web"}
    assert directory.in_service() == begun.at("reward_model")
    assert improve.run(config) == found
    assert len(directory.improvements()) == 1


def test_what_there_is_not_is_named(tmp_path: Path) -> None:
    preset = tmp_path / "tiny.yaml"
    preset.write_text(f"run: {tmp_path / 'run'}\n{CONFIG}")

    def config(*overrides: str) -> Config:
        return load(str(preset), overrides)

    with pytest.raises(UserError, match=r"gateway\.record is empty"):
        improve.run(config())
    record = f"gateway.record={tmp_path / 'recordings'}"
    with pytest.raises(UserError, match="run `agentrm train` first"):
        improve.run(config(record))
    (tmp_path / "run" / "reward_model").mkdir()
    with pytest.raises(UserError, match=r"no conversation in .* has an outcome"):
        improve.run(config(record))
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "notes.jsonl").write_text("[]\n")
    with pytest.raises(UserError, match=r"notes\.jsonl was not written by the gateway"):
        improve.run(config(record))


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def _texts(trees: Iterable[Tree]) -> list[str]:
    """What is said on the last path of each tree."""
    return [str(message) for each in trees for message in each.state(len(each.nodes) - 1).conversation().messages]

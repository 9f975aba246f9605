"""A policy that calls tools, in this process and behind vLLM's own server, whose parser reads the same calls."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from agentrm.config.schema import Model, Sampling, Scratch
from agentrm.core.actions import ActionFormat
from agentrm.core.messages import call_id
from agentrm.core.protocols import Policy
from agentrm.core.state import Proposal, State, joined
from agentrm.core.task import Task
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.registry import environment_class
from agentrm.models.endpoint import ChatEndpoint
from agentrm.models.initial import prepare
from agentrm.models.openai_policy import EndpointPolicy
from agentrm.models.policy import LanguageModelPolicy
from agentrm.models.transformers_generator import TransformersGenerator
from agentrm.rendering.renderer import Renderer
from agentrm.search.episode import Opening
from tests.servers import free_port

CONTEXT = 2048
SAMPLING = Sampling(temperature=0.0, max_tokens=256)
TASK = Task("maze", "perfect_tiny", "train", 1)
OPENING = Opening(instructions=False, action_format=ActionFormat.tools)
_STARTS_S = 300.0


def episode(pool: SessionPool) -> list[State]:
    """The states of an episode that is solved with two calls in a turn."""
    oracle = pool.expert_actions(TASK)
    states = [OPENING(TASK, pool.observe(TASK, ()))]
    for taken in range(0, len(oracle), 2):
        actions = oracle[taken : taken + 2]
        calls = [environment_class("maze").call(action) for action in actions]
        named = tuple(type(call)(call.name, call.arguments, call_id(taken + i)) for i, call in enumerate(calls))
        proposal = Proposal("So.", joined(actions), "So.", calls=named)
        observation = pool.observe(TASK, (*states[-1].actions, proposal.action))
        states.append(states[-1].extend(proposal, observation))
    return states


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one that has learned one episode by heart."""
    directory = tmp_path_factory.mktemp("tools") / "policy"
    pool = SessionPool()
    last = episode(pool)[-1].conversation()
    pool.close()
    texts = [str(message) for message in last.messages] + [str(list(last.tools))]
    scratch = Scratch(vocabulary=512, hidden=64, layers=2, heads=2)
    prepare(Model(source="scratch", context=CONTEXT, scratch=scratch), texts * 4, 0, directory)
    (row,) = Renderer.from_pretrained(directory, CONTEXT).turns(last)
    ids, own = torch.tensor([row.ids]), torch.tensor([row.agent])
    model = AutoModelForCausalLM.from_pretrained(directory)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(ids, labels=torch.where(own, ids, -100)).loss
        if float(loss) < 0.003:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def server(policy: Path) -> Iterator[str]:
    """vLLM's OpenAI-compatible server of the policy."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(policy), "--port", str(port)]
    command += ["--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", str(CONTEXT), "--enforce-eager"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--host", "127.0.0.1"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(command, env=os.environ | settings)
    try:
        end = time.monotonic() + _STARTS_S
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


async def played(policy: Policy) -> list[Proposal]:
    """The turns of an episode, one answer to each call."""
    pool = SessionPool()
    state, proposals = OPENING(TASK, pool.observe(TASK, ())), []
    while not state.done and len(proposals) < 20:
        (proposal,) = await policy.propose(state, 1, greedy=True)
        proposals.append(proposal)
        state = state.extend(proposal, pool.observe(TASK, (*state.actions, proposal.action)))
        assert len(state.steps[-1].answers) == max(len(proposal.calls), 1)
    assert pool.grade(TASK, state.actions).success
    pool.close()
    return proposals


def test_a_policy_calls_several_tools_in_a_turn_and_solves_its_task_here_and_behind_vllm(
    policy: Path, server: str
) -> None:
    renderer = Renderer.from_pretrained(policy, CONTEXT)
    generator = TransformersGenerator(policy, SAMPLING, CONTEXT, renderer.stop_ids, "cpu")
    here = asyncio.run(played(LanguageModelPolicy(generator, renderer, ActionFormat.tools)))
    pool = SessionPool()
    assert [each.action for each in here] == [step.proposal.action for step in episode(pool)[-1].steps]
    pool.close()
    assert all(each.text == "So." and not each.malformed for each in here)

    async def remote() -> list[Proposal]:
        return await played(EndpointPolicy(ChatEndpoint(server, "tiny", "none"), SAMPLING, ActionFormat.tools))

    there = asyncio.run(remote())
    assert [(each.text, each.action, each.tokens) for each in there] == [
        (each.text, each.action, each.tokens) for each in here
    ]
    assert [each.logprob for each in there] == pytest.approx([each.logprob for each in here], abs=0.02)

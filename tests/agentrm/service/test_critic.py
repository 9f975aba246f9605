"""The critic over real HTTP, on events of the OpenHands SDK's form, and of the SDK itself where Python has it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentrm.config.schema import End, Serve
from agentrm.core.errors import InputRefused, UserError
from agentrm.core.messages import Conversation, text_of
from agentrm.evaluation.calibration import Calibration
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per
from agentrm.service import critic
from agentrm.service.api import create_app
from agentrm.service.critic import Critic, conversation_of
from tests.servers import serving

KEY = "k"


@dataclass
class Said:
    """A message as the SDK has it."""

    role: str
    content: list[Any]
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None


@dataclass
class Words:
    text: str


@dataclass
class Call:
    id: str
    name: str = "run"
    arguments: str = '{"command": "ls"}'


@dataclass
class Event:
    id: str
    said: Said
    llm_response_id: str | None = None
    tools: list[Any] = field(default_factory=list)

    def to_llm_message(self) -> Said:
        return self.said


@dataclass
class Tool:
    def to_openai_tool(self) -> dict[str, Any]:
        return {"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}


EVENTS = [
    Event("0", Said("system", [Words("Be brief.")]), tools=[Tool()]),
    Event("1", Said("user", [Words("fix it"), Words("soon")])),
    "an event that no model reads",
    Event("2", Said("assistant", [Words("I look.")], [Call("a")], reasoning_content="hm"), "r1"),
    Event("3", Said("assistant", [], [Call("b")]), "r1"),
    Event("4", Said("tool", [Words("x.py")], tool_call_id="a", name="run")),
    Event("5", Said("tool", [Words("y.py")], tool_call_id="b", name="run")),
    Event("6", Said("assistant", [Words("Done.")]), "r2"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Scores by the length of the last message, 10 characters for 1."""

    async def score(inputs: list[Input], per: Per) -> list[Reading]:
        assert all(isinstance(each, Conversation) for each in inputs)
        return [Reading([len(text_of(each.messages[-1])) / 10], 1, 0) for each in inputs]

    async def healthy() -> bool:
        return True

    known = {End.action: Calibration([0.0, 1.0], [0.0, 0.5])}
    with serving(create_app(score, healthy, Serve(api_key=KEY), "a-model", 99, calibrations=known)) as address:
        yield address


def test_events_are_one_conversation() -> None:
    conversation = conversation_of(EVENTS)
    calls = [
        {"id": id, "type": "function", "function": {"name": "run", "arguments": {"command": "ls"}}} for id in ("a", "b")
    ]
    said = [dict(each) for each in conversation.messages]
    for each in said:
        for call in each.get("tool_calls", ()):
            if isinstance(call["function"]["arguments"], str):
                call["function"]["arguments"] = {"command": "ls"}
    assert said == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "fix it\nsoon"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "content": "x.py", "tool_call_id": "a", "name": "run"},
        {"role": "tool", "content": "y.py", "tool_call_id": "b", "name": "run"},
        {"role": "assistant", "content": "Done."},
    ]
    assert [tool["function"]["name"] for tool in conversation.tools] == ["run"]


def test_a_score_is_a_probability(url: str) -> None:
    found = Critic(url, KEY).evaluate(EVENTS, git_patch="")
    assert found.score == 0.5 and found.success and found.message == "value of the action: 0.500"
    assert found.metadata == {"value": 0.5, "at": "action", "event_ids": list("0123456")}
    assert Critic(url, KEY, calibrated=True).evaluate(EVENTS).score == 0.25
    longer = [*EVENTS, Event("7", Said("user", [Words("Why is that?")]))]
    assert Critic(url, KEY).evaluate(longer).score == 1.0
    assert Critic(url, KEY).evaluate(longer).metadata["at"] == "state"


def test_what_no_model_reads_is_refused(url: str) -> None:
    with pytest.raises(InputRefused, match="no event"):
        Critic(url, KEY).evaluate(["a state"])
    with pytest.raises(InputRefused, match="object: a model here reads text alone"):
        conversation_of([Event("1", Said("user", [object()]))])


def test_without_the_sdk_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openhands", None)
    with pytest.raises(UserError, match="pip install openhands-sdk"):
        critic._of_the_sdk()
    with pytest.raises(AttributeError):
        critic.nothing  # noqa: B018


def test_the_sdks_own_classes_take_it(url: str) -> None:
    """The SDK needs Python 3.12 and much that does not install beside what is tested together here."""
    pytest.importorskip("openhands.sdk")
    from openhands.sdk import LLM, Agent
    from openhands.sdk.critic import CriticBase, CriticResult
    from openhands.sdk.event import ActionEvent, MessageEvent, SystemPromptEvent
    from openhands.sdk.llm import Message, MessageToolCall, TextContent
    from openhands.sdk.tool.builtins import FinishAction, FinishTool

    tools = [*FinishTool.create()]
    call = MessageToolCall(id="a", name="finish", arguments='{"message": "Done"}', origin="completion")
    events = [
        SystemPromptEvent(system_prompt=TextContent(text="Be brief."), tools=tools),
        MessageEvent(source="user", llm_message=Message(role="user", content=[TextContent(text="fix it")])),
        ActionEvent(
            thought=[TextContent(text="I am done")],
            action=FinishAction(message="Done"),
            tool_name="finish",
            tool_call_id="a",
            tool_call=call,
            llm_response_id="r",
        ),
    ]
    made = critic.OpenHandsCritic(url=url, api_key=KEY)
    agent = Agent(llm=LLM(model="openai/none", api_key="none"), tools=[], critic=made)
    assert isinstance(agent.critic, CriticBase)
    result = agent.critic.evaluate(events, git_patch=None)
    assert isinstance(result, CriticResult)
    assert result.score == pytest.approx(0.9) and result.metadata["event_ids"] == [each.id for each in events]
    said = conversation_of(events)
    assert [each["role"] for each in said.messages] == ["system", "user", "assistant"]
    assert [tool["function"]["name"] for tool in said.tools] == ["finish"]
    # It survives what the SDK does with the parts of an agent, and its key is shown nowhere.
    assert CriticBase.model_validate(made.model_dump()) == made
    assert "hush" not in critic.OpenHandsCritic(url=url, api_key="hush").model_dump_json()

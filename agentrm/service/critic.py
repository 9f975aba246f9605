"""A scoring service as a critic of the OpenHands SDK, which is asked how good an agent's events are so far.

from agentrm.service.critic import OpenHandsCritic

agent = Agent(llm=llm, tools=tools, critic=OpenHandsCritic(url="http://127.0.0.1:8000", api_key="..."))

`Critic` is the same for code that only knows the form: `evaluate(events, git_patch)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import SecretStr

from agentrm.core.errors import InputRefused, UserError
from agentrm.core.messages import AGENT, Conversation, Message, checked, checked_tools
from agentrm.service.client import ScoringClient


@dataclass(frozen=True, slots=True)
class Judgement:
    """The fields of the SDK's `CriticResult`. `score`: the chance of success, from 0 to 1; `metadata`: the raw `value`,
    whether it is `at` a state or an action, and the `event_ids`.
    """

    score: float
    message: str
    metadata: dict[str, Any]

    @property
    def success(self) -> bool:
        """Whether success is as likely as not."""
        return self.score >= 0.5


@dataclass(frozen=True, slots=True)
class Critic:
    """Judges by the scoring service at `url`: with `calibrated` by the model's calibration, else by its raw value cut
    to [0, 1]. A conversation that ends with the agent's turn needs a model that has learned values of actions.
    """

    url: str
    api_key: str = ""
    calibrated: bool = False

    def evaluate(self, events: Sequence[Any], git_patch: str | None = None) -> Judgement:
        """How good the conversation of some events is; a patch says nothing that it does not. Raises InputRefused for
        what no model here reads, and ServiceError.
        """
        conversation = conversation_of(events)
        with ScoringClient(self.url, self.api_key) as client:
            (value,) = client.score([conversation], calibrated=self.calibrated)
        at = "action" if conversation.messages[-1]["role"] == AGENT else "state"
        told = f"{'probability' if self.calibrated else 'value'} of the {at}: {value:.3f}"
        known = {"value": value, "at": at, "event_ids": [event.id for event in events if hasattr(event, "id")]}
        return Judgement(min(max(value, 0.0), 1.0), told, known)


def conversation_of(events: Sequence[Any]) -> Conversation:
    """What a language model is shown of events: of those that have `to_llm_message`, as the SDK's. Calls of one turn
    are one message. Raises InputRefused.
    """
    messages: list[Message] = []
    tools: list[Any] = []
    turn = None
    for event in events:
        if not hasattr(event, "to_llm_message"):
            continue
        tools += [tool.to_openai_tool() for tool in getattr(event, "tools", None) or ()]
        message = _message(event.to_llm_message())
        before, turn = turn, getattr(event, "llm_response_id", None)
        if turn is not None and turn == before and "tool_calls" in message:
            messages[-1].setdefault("tool_calls", []).extend(message["tool_calls"])
        else:
            messages.append(message)
    if not messages:
        raise InputRefused("there is no event that a model reads")
    return Conversation(checked(messages, "events"), checked_tools(tools))


def _message(said: Any) -> Message:
    parts = []
    for part in said.content:
        if not hasattr(part, "text"):
            raise InputRefused(f"an event holds {type(part).__name__}: a model here reads text alone")
        parts.append(part.text)
    message: Message = {"role": said.role, "content": "\n".join(parts)}
    if said.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in said.tool_calls
        ]
    for name in ("tool_call_id", "name", "reasoning_content"):
        if (value := getattr(said, name, None)) and (name != "reasoning_content" or said.role == AGENT):
            message[name] = value
    return message


def _of_the_sdk() -> type[Any]:
    """`Critic` as a subclass of the SDK's class, which an `Agent` asks for, and which is imported on first use only."""
    try:
        from openhands.sdk.critic import CriticBase, CriticResult
    except ImportError as error:
        raise UserError("the OpenHands SDK is not here: pip install openhands-sdk, on Python 3.12 or newer") from error

    class OpenHandsCritic(CriticBase):
        """See `Critic`."""

        # The SDK finds critics by name, and refuses those that seem to be local.
        __qualname__ = "OpenHandsCritic"
        url: str
        api_key: SecretStr = SecretStr("")
        calibrated: bool = False

        def evaluate(self, events: Sequence[Any], git_patch: str | None = None) -> CriticResult:
            """See `Critic.evaluate`."""
            critic = Critic(self.url, self.api_key.get_secret_value(), self.calibrated)
            return CriticResult(**asdict(critic.evaluate(events, git_patch)))

    return OpenHandsCritic


def __getattr__(name: str) -> Any:
    if name != "OpenHandsCritic":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made = _of_the_sdk()
    return made

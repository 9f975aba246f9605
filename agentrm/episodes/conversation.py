"""Conversations of others as those of ours: calls and their answers belong together."""

from __future__ import annotations

from collections.abc import Sequence

from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT, Message, text_of


def linked(messages: Sequence[Message], where: str = "messages") -> list[Message]:
    """Checked messages in which every answer of a tool names its call; one that names none answers the first call that
    has no answer yet. The agent's text parts become one text. Raises InputRefused for an answer without a call.
    """
    linked_messages: list[Message] = []
    calls: list[str] = []
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == AGENT:
            message = {key: value for key, value in message.items() if key != "name"}
            message["content"] = text_of(message) or (None if message.get("tool_calls") else "")
            calls = [call["id"] for call in message.get("tool_calls", ())]
            open_calls = list(calls)
        elif message["role"] == "tool":
            given = message.get("tool_call_id", "")
            if (given and given not in calls) or (not given and not open_calls):
                told = f"answers the call {given!r}, which is not" if given else "answers no call"
                raise InputRefused(f"{where}[{index}] {told} in the agent's turn before it")
            answered = given or open_calls[0]
            if answered in open_calls:
                open_calls.remove(answered)
            if answered:
                message = message | {"tool_call_id": answered}
        linked_messages.append(message)
    return linked_messages


def text(value: str, where: str) -> str:
    """Text that can be stored. Raises InputRefused."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputRefused(f"{where} holds half of a surrogate pair, which is no character") from None
    return value

"""Calls of tools out of a policy's turns: read by vLLM's parsers from what a chat template writes, or as endpoints send
them, and made proposals.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from agentrm.core.actions import ActionFormat, read
from agentrm.core.errors import ContextOverflow, InputRefused, ModelError
from agentrm.core.messages import AGENT, Conversation, Message, Tool, ToolCall, call_id
from agentrm.core.state import Proposal, State, joined
from agentrm.environments.calls import text_tool
from agentrm.environments.registry import environment_class
from agentrm.rendering.renderer import Renderer

AUTO = "auto"

_FORMS = (
    ("<|tool_call>call:", "gemma4"),
    ("<|channel|>commentary", "openai"),
    ("<\uff5cDSML\uff5c", "deepseek_v32"),
    ("<\uff5ctool▁call▁begin\uff5c>function", "deepseek_v3"),
    ("<\uff5ctool▁call▁begin\uff5c>", "deepseek_v31"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<seed:tool_call>", "seed_oss"),
    ("<atem:function_calls>", "muse_glimmer"),
    ("<|tool_call_start|>", "lfm2"),
    ("<|START_ACTION|>", "cohere_command3"),
    ("[TOOL_CALLS]", "mistral"),
    ("<function_calls>", "olmo3"),
    ("<arg_key>", "glm45"),
    ("<function=", "qwen3_coder"),
    ("<tool_call>", "hermes"),
    ('"parameters":', "llama3_json"),
)
"""What templates write of a call, the most telling first, and vLLM's parser that reads it."""

_HARMONY = "openai"
_MESSAGE = re.compile(r"(.*?)<\|message\|>(.*?)(?:<\|(?:end|call|return)\|>|\Z)", re.DOTALL)
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")

_TOOL = text_tool("look", "Look at something.", "place", "Where to look.")
_CALL = ToolCall("look", '{"place": "here"}', call_id(0))


@dataclass(frozen=True, slots=True)
class Turn:
    """What a policy says in a turn, what it thought before, and the calls that it makes."""

    said: str
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()


class CallReader:
    """Reads the turns of a policy that calls tools as its chat template writes them.

    `parser` names one of vLLM's; `auto` chooses it by what the template writes of a call, and it is the one in use
    then. Raises ModelError where none reads that.
    """

    def __init__(self, renderer: Renderer, parser: str = AUTO) -> None:
        self._renderer = renderer
        name = renderer.tokenizer.name_or_path
        ids = _written_call(renderer)
        text = renderer.tokenizer.decode(ids)
        if parser == AUTO:
            parser = next((known for mark, known in _FORMS if mark in text), "")
            if not parser:
                raise ModelError(
                    f"no parser is known for calls as the chat template of {name} writes them ({_short(text)}): name "
                    "one of vLLM's with model.tool_parser"
                )
        self.parser = parser
        self._class = None if parser == _HARMONY else _vllm_parser(parser)
        self._requests = lru_cache(maxsize=256)(_request)
        calls = self.read(ids, [_TOOL]).calls
        if [(call.name, _arguments(call)) for call in calls] != [(_CALL.name, _arguments(_CALL))]:
            raise ModelError(
                f"model.tool_parser={parser} does not read a call as the chat template of {name} writes it "
                f"({_short(text)}): choose the parser that does"
            )

    def read(self, ids: Sequence[int], tools: Sequence[Tool]) -> Turn:
        """A sampled turn; one without a call that can be read has none."""
        said, reasoning = self._renderer.said(ids)
        if self._class is None:
            return _harmony(self._renderer.tokenizer.decode(ids)) or Turn(said, reasoning)
        written, _ = self._renderer.parted(ids)
        request = self._requests(json.dumps(list(tools)))
        # A parser keeps what it has read. What it fails at is no call.
        with suppress(Exception):
            extracted = self._class(self._renderer.tokenizer, request.tools).extract_tool_calls(written, request)
            if extracted.tools_called:
                calls = tuple(ToolCall(call.function.name, call.function.arguments) for call in extracted.tool_calls)
                return Turn(self._renderer.bare(extracted.content or ""), reasoning, calls)
        return Turn(said, reasoning)


def propose(state: State, turn: Turn, logprob: float = 0.0, tokens: int = 0) -> Proposal:
    """The proposal that a turn makes in a state. It is malformed when it has no call, or one that is no action there,
    which the environment is told as text; one whose arguments are no JSON object makes the whole turn text.
    """
    arguments = [_arguments(call) for call in turn.calls]
    if None in arguments or not turn.calls:
        spelled = "\n".join([turn.said, *map(_spelled, turn.calls)])
        return replace(read(spelled, ActionFormat.tools, logprob, tokens), reasoning=turn.reasoning)
    made = sum(len(step.proposal.calls) for step in state.steps)
    calls = tuple(_named(call, made + number) for number, call in enumerate(turn.calls))
    actions = [_action(state, call, given) for call, given in zip(calls, arguments, strict=True)]
    return Proposal(
        turn.said,
        joined([_spelled(call) if action is None else action for call, action in zip(calls, actions, strict=True)]),
        turn.said or turn.reasoning,
        logprob,
        tokens,
        malformed=None in actions,
        reasoning=turn.reasoning,
        calls=calls,
    )


def _named(call: ToolCall, number: int) -> ToolCall:
    """A call with an id, of text that can be stored: JSON can name lone surrogates."""
    return ToolCall(_plain(call.name), _plain(call.arguments), _plain(call.id) or call_id(number))


def _action(state: State, call: ToolCall, arguments: Any) -> str | None:
    if any(tool["function"]["name"] == call.name for tool in state.tools):
        with suppress(ValueError):
            return _plain(environment_class(state.task.environment).action(call.name, arguments))
    return None


def _arguments(call: ToolCall) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        arguments = json.loads(call.arguments)
        return arguments if isinstance(arguments, dict) else None
    return None


def _spelled(call: ToolCall) -> str:
    return f"{call.name}({call.arguments})"


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _written_call(renderer: Renderer) -> list[int]:
    """What a policy writes that makes one call. Raises ModelError where its template shows none."""
    messages: list[Message] = [
        {"role": "user", "content": "go"},
        {"role": AGENT, "content": None, "tool_calls": [_CALL.message()]},
    ]
    ids: list[int] = []
    try:
        rendered = renderer.turns(Conversation(messages, [_TOOL]))[-1]
        ids = [token for token, written in zip(rendered.ids, rendered.agent, strict=True) if written]
    except ContextOverflow:
        raise
    except InputRefused:
        pass
    if _CALL.name not in renderer.tokenizer.decode(ids):
        raise ModelError(
            f"the chat template of {renderer.tokenizer.name_or_path} shows no calls of tools: it cannot be used with "
            "model.action_format=tools"
        )
    return ids


def _vllm_parser(name: str) -> Any:
    """The class of a parser. It takes seconds to import."""
    from vllm.tool_parsers import ToolParserManager

    # A turn that cannot be parsed is no error here.
    for module in ("vllm.tool_parsers", "vllm.parser"):
        logging.getLogger(module).setLevel(logging.CRITICAL)
    try:
        return ToolParserManager.get_tool_parser(name)
    except KeyError:
        known = ", ".join(ToolParserManager.list_registered())
        raise ModelError(f"model.tool_parser={name} is none of vLLM's parsers: choose one of {known}") from None


def _request(tools: str) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return ChatCompletionRequest(messages=[], tools=json.loads(tools))


def _harmony(text: str) -> Turn | None:
    """A turn in GPT-OSS's form, whose parser in vLLM reads the ids of that one vocabulary only."""
    said: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for header, body in _MESSAGE.findall(text):
        if recipient := _RECIPIENT.search(header):
            calls.append(ToolCall(recipient[1], body.strip()))
        else:
            (thoughts if "<|channel|>analysis" in header else said).append(body.strip())
    return Turn("\n".join(said), "\n".join(thoughts), tuple(calls)) if calls else None


def _short(text: str) -> str:
    return repr(text[:100])

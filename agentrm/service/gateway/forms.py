"""What a chat request asks of the gateway, and its answer: a completion, or the chunks of one."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from agentrm.config.schema import Gateway
from agentrm.core.errors import InputRefused

Body = dict[str, Any]
"""A JSON object of OpenAI's chat API."""

K_HEADER = "x-agentrm-k"
SESSION_HEADER = "x-agentrm-session"

_BEST_OF = re.compile(r"(?P<model>.+)@best-of-(?P<k>\d{1,9})")
_SESSION = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_OURS = ("n", "stream", "stream_options")
_SHOWN = 40


class ChatRequest(BaseModel):
    """A request in OpenAI's form. Only what is named here is read: all else goes to the upstream as it is."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra={"examples": [{"model": "m@best-of-4", "messages": [{"role": "user", "content": "hi"}]}]},
    )

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None


class OutcomeRequest(BaseModel):
    """How the episode of a session ended: from 0 to 1."""

    session: Annotated[str, Field(pattern=f"^{_SESSION}$")]
    outcome: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Recorded(BaseModel):
    """How many conversations of the session have the outcome now."""

    conversations: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: `body` is what the upstream gets, without what the gateway does itself; the `n` best of `k` candidates
    are the answer, streamed or not, and streamed with the `usage` at the end or not.
    """

    body: Body
    k: int
    n: int
    stream: bool
    usage: bool

    @classmethod
    def of(cls, request: ChatRequest, header: str | None, settings: Gateway) -> Asked:
        """`k` by the header, else by the model's name, else by the configuration; never below `n`. Raises InputRefused
        for more than `gateway.max_k`.
        """
        body = request.model_dump(exclude_unset=True)
        k, n = settings.k, request.n or 1
        if named := _BEST_OF.fullmatch(request.model):
            body["model"], k = named["model"], int(named["k"])
        if header is not None:
            if not re.fullmatch(r"\d{1,9}", header, re.ASCII):
                raise InputRefused(f"the header {K_HEADER} is {header[:_SHOWN]!r}: send a number of candidates")
            k = int(header)
        for asked in (k, n):
            if not 1 <= asked <= settings.max_k:
                raise InputRefused(f"{asked} candidates are asked for: this gateway gives 1 to {settings.max_k}")
        usage = bool((request.stream_options or {}).get("include_usage"))
        left = {name: value for name, value in body.items() if name not in _OURS}
        return cls(left, max(k, n), n, bool(request.stream), usage)

    @property
    def alone(self) -> bool:
        """Whether there is nothing to choose from."""
        return self.k == 1

    def passed(self) -> Body:
        """The request as the upstream would have got it without the gateway."""
        stream: Body = {"stream": True} if self.stream else {}
        return self.body | stream | ({"stream_options": {"include_usage": True}} if self.stream and self.usage else {})


def session_of(header: str | None) -> str:
    """The session's name, empty without one. Raises InputRefused for what can be no file's name."""
    if header and not re.fullmatch(_SESSION, header):
        raise InputRefused(f"the header {SESSION_HEADER} may have letters, digits, `_`, `-` and `.`, 128 at most")
    return header or ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A choice of the upstream, its natural-log probability where that was asked for and is known, and how often it
    came: its words and its calls are what makes it one.
    """

    choice: Body
    logprob: float | None = None
    count: int = 1

    @property
    def message(self) -> Body:
        """The agent's turn."""
        return self.choice["message"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidates in the order in which they came, the value of each (None: it has none), and the numbers of the
    `best` in order. `first` is the upstream's first completion, `usage` that of all. `reason` says why no value
    decided, empty where one did.
    """

    first: Body
    candidates: Sequence[Candidate]
    values: Sequence[float | None]
    best: Sequence[int]
    usage: Body
    reason: str = ""

    @property
    def tokens(self) -> int:
        """The tokens of all candidates, as the upstream counted."""
        return whole(self.usage.get("completion_tokens"))

    def about(self) -> Body:
        """The answer's field `agentrm`."""
        return {
            "candidates": [
                {"message": candidate.message, "count": candidate.count}
                | ({} if candidate.logprob is None else {"logprob": candidate.logprob})
                for candidate in self.candidates
            ],
            "values": self.values,
            "chosen": self.best[0],
            "tokens": self.tokens,
            "degraded": bool(self.reason),
            "reason": self.reason or None,
        }

    def headers(self) -> dict[str, str]:
        """The same in the answer's headers, without the candidates."""
        chosen = self.best[0]
        value = self.values[chosen]
        return {
            "x-agentrm-candidates": str(len(self.candidates)),
            "x-agentrm-chosen": str(chosen),
            "x-agentrm-tokens": str(self.tokens),
            "x-agentrm-degraded": str(bool(self.reason)).lower(),
        } | ({} if value is None else {"x-agentrm-value": f"{value:.6g}"})

    def completion(self) -> Body:
        """The best as an ordinary completion."""
        usage = {"usage": self.usage} if self.usage else {}
        return self.first | {"choices": self._choices()} | usage | {"agentrm": self.about()}

    def chunks(self, usage: bool) -> Iterator[bytes]:
        """The best as the events of a stream; the field `agentrm` comes with the last choice."""
        head = {
            "id": self.first.get("id") or f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": self.first.get("created") or int(time.time()),
            "model": self.first.get("model") or "",
        }
        choices = self._choices()
        for choice in choices:
            index, message = choice["index"], choice["message"]
            said = {name: value for name, value in message.items() if value is not None}
            if calls := said.get("tool_calls"):
                said["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
            delta = {"index": index, "delta": said, "finish_reason": None}
            if choice.get("logprobs"):
                delta["logprobs"] = choice["logprobs"]
            yield event(head | {"choices": [delta]})
            last = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
            about = {"agentrm": self.about()} if choice is choices[-1] else {}
            yield event(head | {"choices": [last]} | about)
        if usage:
            yield event(head | {"choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _choices(self) -> list[Body]:
        return [self.candidates[number].choice | {"index": index} for index, number in enumerate(self.best)]


def event(data: Any) -> bytes:
    """One event of a stream."""
    return f"data: {json.dumps(data)}\n\n".encode()


def merged(sampled: Iterable[Candidate]) -> list[Candidate]:
    """The distinct candidates in order, each with how often it came."""
    distinct: dict[str, Candidate] = {}
    for candidate in sampled:
        key = identity(candidate.message)
        distinct[key] = replace(distinct[key], count=distinct[key].count + 1) if key in distinct else candidate
    return list(distinct.values())


def identity(message: Mapping[str, Any]) -> str:
    """What makes two messages the same turn: who says it, the words, and the calls with their arguments. Ids of calls
    are drawn anew each time, and reasoning changes nothing of what is done.
    """
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "\n".join(str(part.get("text")) if _is_text(part) else _canonical(part) for part in content)
    calls = [
        [function.get("name"), _arguments(function.get("arguments"))]
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict)
    ]
    return _canonical([message.get("role"), content, calls, message.get("refusal") or ""])


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _arguments(given: Any) -> Any:
    try:
        return json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        return given


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def whole(value: Any) -> int:
    """A count in others' JSON; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def summed(usages: Sequence[Body]) -> Body:
    """The usage of several completions."""
    total: Body = {}
    for usage in usages:
        for name, value in usage.items():
            if isinstance(value, dict):
                total[name] = summed([_mapping(total.get(name)), value])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                before = total.get(name)
                total[name] = value + (before if isinstance(before, int | float) else 0)
            else:
                total.setdefault(name, value)
    return total


def _mapping(value: Any) -> Body:
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class Streamed:
    """The message of a stream that is passed through, put together of the bytes that went by."""

    message: Body = field(default_factory=lambda: {"role": "assistant", "content": None})
    usage: Body = field(default_factory=dict)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (chunk := _json(line[5:])):
                self.usage = _mapping(chunk.get("usage")) or self.usage
                for choice in chunk.get("choices") or ():
                    self._add(_mapping(_mapping(choice).get("delta")))

    def _add(self, delta: Body) -> None:
        for name in ("content", "reasoning_content", "reasoning", "refusal"):
            if isinstance(delta.get(name), str):
                self.message[name] = (self.message.get(name) or "") + delta[name]
        calls = self.message.get("tool_calls", [])
        for part in delta.get("tool_calls") or ():
            index, function = whole(_mapping(part).get("index")), _mapping(_mapping(part).get("function"))
            while len(calls) <= index < len(calls) + 2:
                calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
            call = calls[index]
            call["id"] = _mapping(part).get("id") or call["id"]
            for name in ("name", "arguments"):
                call["function"][name] += function.get(name) or ""
        if calls:
            self.message["tool_calls"] = calls


def _json(data: bytes) -> Body:
    try:
        return _mapping(json.loads(data))
    except (ValueError, RecursionError):
        return {}

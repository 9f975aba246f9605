"""An OpenAI-compatible chat endpoint, such as vLLM's server: one client for the judge and the remote policy."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from math import inf, isfinite, nan
from typing import Any

from agentrm.core.errors import ContextOverflow, InputRefused, ModelError, ModelUnavailable
from agentrm.core.messages import Message, ToolCall, text_of

Options = Mapping[str, Any]
"""Fields of a request beside the model and the messages."""

_CONNECT_S = 10.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
# An endpoint that has answered nobody for so long is asked whether it still answers anybody.
_SILENCE_S = 60.0

_GREETING: Sequence[Message] = [{"role": "user", "content": "Hello"}]
_EMPTY = "(empty)"
"""Sent for a turn without text, which many endpoints refuse although they may have answered with it themselves."""

_THOUGHTS = "reasoning_content"
_ASKED_FOR = {
    "tools": "tools, which model.action_format=tools needs",
    "extra_body": "settings of its chat template, which model.template_kwargs are",
}
_INSTEAD = {"max_tokens": "max_completion_tokens"}
# How a refusal names a field, where not by the field's own name; a single letter must stand alone.
_NAMED = {"logprobs": r"(?i)log[ _]?prob", "n": r"(?<![\w\\])n(?!\w)", "extra_body": "chat_template_kwargs"}

_ABOUT_FIELDS = (400, 404, 422, 501)
_PASSING = (408, 409, 425, 429)
_TOO_LARGE = 413
_NOT_IMPLEMENTED, _BAD_GATEWAY = 501, 502

_OVERFLOW = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|max\w*[ _-](?:context|model|prompt|input|seq\w*)[ _-]len"
    r"|(?:input|prompt|sequence) length|reduce (?:the|your) (?:length|prompt|input|messages?)|too many (?:\w+ )?tokens"
    r"|(?:prompt|inputs?|messages?|content|conversation|request|string|text)\b[^.]{0,60}?\btoo (?:long|large)"
    r"|(?:prompt|inputs?|messages?|conversation|request|text)\b.{0,80}?"
    r"(?:exceed|longer than|more than|less than|must be <).{0,80}?(?:tokens?\b|context)",
    re.IGNORECASE,
)
_OUTPUT_LIMIT = re.compile(r"max_(?:completion_|new_)?tokens|(?:output|completion) tokens", re.IGNORECASE)
_INPUT = re.compile(r"context|prompt|input|messages", re.IGNORECASE)

_WORDS = 300


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer: its text, the reasoning that came apart from it, and the calls of tools, in their order.

    `logprob` sums the natural-log probabilities of its `tokens` tokens; 0 without log-probabilities of all of them, as
    are `tokens` where the endpoint does not count.
    """

    text: str
    reasoning: str = ""
    logprob: float = 0.0
    tokens: int = 0
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class _Told:
    """What an endpoint says is wrong: its words, the status or code, and the field that it names, if it does."""

    words: str
    code: str = ""
    field: str = ""


class _Refusal(Exception):
    """A request as it is will not be answered, however often it is sent."""

    def __init__(self, status: int, told: _Told) -> None:
        super().__init__(f"{status} {told.words}")
        self.status = status
        self.told = told


class ChatEndpoint:
    """Asks `model` at `url` (".../v1"), `concurrency` requests at a time, each try at most `timeout_s` long.

    Failed requests and answers without a choice are tried again `retries` times with growing waits. A field that the
    endpoint refuses or ignores is left out, or replaced by its successor, from then on; so are thoughts in messages,
    which are sent by the name by which they come. What is asked for by name in the configuration, tools and settings of
    the chat template, is never left out: ModelUnavailable says that the endpoint does not take it.

    Raises ContextOverflow for messages that the model's context does not hold, InputRefused for what it refuses
    otherwise, ModelError when this request was not answered, and ModelUnavailable when not even a greeting is.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str,
        *,
        concurrency: int = 16,
        retries: int = 2,
        timeout_s: float = 600.0,
    ) -> None:
        from openai import AsyncOpenAI, Timeout

        timeout = Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S))
        self._client = AsyncOpenAI(base_url=url, api_key=api_key, max_retries=retries, timeout=timeout)
        self._lanes = asyncio.Semaphore(concurrency)
        self._url = url
        self._retries = retries
        self._answered = -inf
        self._thoughts = _THOUGHTS
        self._taken: set[tuple[str, Any]] = set()
        self._refused: set[tuple[str, Any]] = set()
        self.model = model

    async def sample(self, messages: Sequence[Message], n: int, seed: int, **options: Any) -> list[Choice]:
        """`n` answers, in one request where the endpoint gives several choices, else each from a seed of its own."""
        answers: list[Choice] = []
        if n > 1 and _key("n", n) not in self._refused:
            answers = await self.chat(messages, n=n, seed=seed, **options)
            if len(answers) < n:
                self._refuse("n", n)
        singly = [self.chat(messages, n=1, seed=seed + number, **options) for number in range(len(answers), n)]
        return [*answers, *(choices[0] for choices in await asyncio.gather(*singly))][:n]

    async def chat(self, messages: Sequence[Message], **options: Any) -> list[Choice]:
        """The choices of one request, at least one; `options` are the API's."""
        thoughts = any("reasoning_content" in message for message in messages)
        try:
            async with self._lanes:
                asked = {**options, _THOUGHTS: True} if thoughts else options
                return await self._settled(messages, self._left(asked))
        except _Refusal as refusal:
            error = InputRefused(f"{self.model} refused a request: {refusal}")
            await self._greet(options, error)
            raise error from refusal
        except ContextOverflow:
            raise
        except ModelError as error:
            if time.monotonic() - self._answered > _SILENCE_S:
                await self._greet(options, error)
            raise

    async def _greet(self, options: Options, error: ModelError) -> None:
        """Raise ModelUnavailable if the endpoint takes no request at all, so that its error was not about this one."""
        try:
            await self._named(_GREETING, self._left({**options, "n": 1}))
        except (_Refusal, ModelError) as failure:
            raise ModelUnavailable(str(error)) from failure

    def _refuse(self, name: str, value: Any, words: str = "") -> None:
        """The endpoint answers without this field. Who gives one choice at a time need not be asked for one."""
        if name in _ASKED_FOR:
            raise ModelUnavailable(f"{self.model} at {self._url} takes no {_ASKED_FOR[name]}: {words}")
        self._refused |= {_key(name, value)} | ({_key("n", 1)} if name == "n" else set())

    def _left(self, options: Options) -> Options:
        """The fields that the endpoint is not known to refuse."""
        for name in (*options, *_INSTEAD.values()):
            if name in options and _key(name, options[name]) in self._refused:
                options = _without(options, name)
        return options

    async def _settled(self, messages: Sequence[Message], options: Options) -> list[Choice]:
        """The choices, without the fields that the endpoint refuses; where it names none, it is tried without each."""
        try:
            return await self._named(messages, options)
        except _Refusal as refusal:
            for name, value in options.items() if refusal.status in _ABOUT_FIELDS else ():
                if _key(name, value) not in self._taken:
                    with suppress(_Refusal):
                        choices = await self._named(messages, _without(options, name))
                        self._refuse(name, value, refusal.told.words)
                        return choices
            raise

    async def _named(self, messages: Sequence[Message], options: Options) -> list[Choice]:
        """The choices, without the fields that the endpoint's refusals name, one after the other."""
        refused: list[tuple[str, Any, str]] = []
        while True:
            try:
                choices = await self._ask(messages, options)
            except _Refusal as refusal:
                name = _blamed(refusal.told, options)
                if name is None or (name in _ASKED_FOR and _key(name, options[name]) in self._taken):
                    raise
                refused.append((name, options[name], refusal.told.words))
                options = _without(options, name)
            else:
                for field in refused:
                    self._refuse(*field)
                self._taken |= {_key(name, value) for name, value in options.items()}
                return choices

    async def _ask(self, messages: Sequence[Message], options: Options) -> list[Choice]:
        """The choices of one request as it is. Raises _Refusal, ContextOverflow, and ModelError without an answer."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        sent: Any = [self._sent(message, _THOUGHTS in options) for message in messages]
        options = {name: value for name, value in options.items() if name != _THOUGHTS}
        for attempt in range(self._retries + 1):
            if attempt:
                await asyncio.sleep(min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S))
            try:
                # As it came: the client's own types do not hold what endpoints send in place of an answer.
                answer = await self._client.chat.completions.with_raw_response.create(
                    model=self.model, messages=sent, **options
                )
            except APIStatusError as error:
                raise self._failure(error.status_code, _told(error.response.text)) from error
            except APIConnectionError as error:
                raise ModelError(f"{self.model} did not answer at {self._url}: {_cause(error)}") from error
            except OpenAIError as error:
                raise ModelError(f"{self.model} did not answer: {error}") from error
            choices = _choices(answer.http_response.text)
            if choices:
                if '"reasoning"' in answer.http_response.text:
                    self._thoughts = "reasoning"
                self._answered = time.monotonic()
                return choices
            told = _told(answer.http_response.text)
            failure = self._failure(int(told.code) if told.code.isdecimal() else _BAD_GATEWAY, told)
            if isinstance(failure, _Refusal | ContextOverflow):
                raise failure
        raise ModelError(f"{self.model} answered without a choice: {told.words}")

    def _sent(self, message: Message, thoughts: bool) -> dict[str, Any]:
        """A message as endpoints take it: its content as text, never empty but beside calls."""
        text = _plain(text_of(message)).strip()
        sent = {**message, "content": text or (None if "tool_calls" in message else _EMPTY)}
        reasoning = sent.pop(_THOUGHTS, None)
        return sent | {self._thoughts: reasoning} if reasoning and thoughts else sent

    def _failure(self, status: int, told: _Told) -> _Refusal | ModelError:
        if status == _TOO_LARGE or (status not in _PASSING and _overflows(told)):
            self._answered = time.monotonic()
            return ContextOverflow(f"the context of {self.model} is too short: {told.words}")
        if status in _PASSING or (status >= 500 and status != _NOT_IMPLEMENTED):
            return ModelError(f"{self.model} did not answer: {status} {told.words}")
        return _Refusal(status, told)


def _cause(error: Exception) -> str:
    return str(error.__cause__ or "") or str(error)


def _key(name: str, value: Any) -> tuple[str, Any]:
    """What is remembered of a field: of some an endpoint may take one value and refuse another."""
    if name == "n":
        return name, value > 1
    return name, value if name in ("temperature", "top_p") else None


def _without(options: Options, name: str) -> Options:
    left = {other: value for other, value in options.items() if other != name}
    return left | {_INSTEAD[name]: options[name]} if name in _INSTEAD else left


def _blamed(told: _Told, options: Options) -> str | None:
    """The field of a request that a refusal is about."""
    if told.field in options:
        return told.field
    patterns = ((name, _NAMED.get(name, rf"(?<!\w){name}(?!\w)")) for name in options)
    return next((name for name, pattern in patterns if re.search(pattern, told.words)), None)


def seed_of(key: str) -> int:
    """A seed that any endpoint takes, the same for the same key."""
    return int.from_bytes(blake2b(key.encode(), digest_size=3).digest(), "big")


def overflows(text: str) -> bool:
    """Whether an endpoint's refusal, the text of its answer, says that the messages were too long."""
    return _overflows(_told(text))


def _overflows(told: _Told) -> bool:
    """Whether the messages were too long; a limit of the answer's length alone is another matter."""
    if told.code == "context_length_exceeded":
        return True
    if _OUTPUT_LIMIT.search(told.words) and not _INPUT.search(told.words):
        return False
    return _OVERFLOW.search(told.words) is not None


def _told(text: str) -> _Told:
    """What the body of a failure says, in any of the forms that endpoints use; of a page its text."""
    body: Any = None
    with suppress(ValueError, RecursionError):
        body = json.loads(text)
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, dict):
        body = _error(body) or body
    if isinstance(body, dict):
        details = body.get("detail")
        if isinstance(details, list) and details and all(isinstance(detail, dict) for detail in details):
            fields = [str((_get(detail, "loc", list) or [""])[-1]) for detail in details]
            words = "; ".join(f"{name}: {detail.get('msg')}" for name, detail in zip(fields, details, strict=True))
            return _Told(_short(words), field=fields[0])
        words = body.get("message") or details or text
        return _Told(_short(str(words)), str(body.get("code") or ""), str(body.get("param") or ""))
    return _Told(_short(body if isinstance(body, str) else text))


def _error(body: Mapping[str, Any]) -> Any:
    """The error in a body, or in its first choice."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return body.get("error") or (first.get("error") if isinstance(first, dict) else None)


def _short(text: str) -> str:
    words = " ".join(
        re.sub(r"<(style|script)\b.*?</\1>|</?[a-z!][^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).split()
    )
    return words[:_WORDS] or "no words"


def logprob_of(choice: Mapping[str, Any]) -> float | None:
    """The sum of the natural-log probabilities of a choice's tokens; None without one of each."""
    tokens = _logprobs(choice)
    known = [logprob for token in tokens if isfinite(logprob := _get(token, "logprob", (float, int), nan))]
    return sum(known) if tokens and len(known) == len(tokens) else None


def _logprobs(choice: Mapping[str, Any]) -> list[Any]:
    return _get(_get(choice, "logprobs", dict), "content", list) or []


def _choices(text: str) -> list[Choice]:
    """The answers that a body holds; none where it is something else."""
    body: Any = None
    with suppress(ValueError, RecursionError):
        body = json.loads(text)
    given = [choice for choice in _get(body, "choices", list) or () if not _get(choice, "error", dict)]
    messages = [(choice, message) for choice in given if (message := _get(choice, "message", dict)) is not None]
    # Only all choices together are counted, where no log-probabilities are.
    counted = _get(_get(body, "usage", dict), "completion_tokens", int) or 0
    return [_choice(choice, message, counted // len(messages)) for choice, message in messages]


def _choice(choice: Mapping[str, Any], message: Mapping[str, Any], counted: int) -> Choice:
    parts = _get(message, "content", list) or ()
    text = _get(message, "content", str) or "".join(_get(part, "text", str) or "" for part in parts)
    reasoning = _get(message, "reasoning_content", str) or _get(message, "reasoning", str) or ""
    return Choice(
        _plain(text or _get(message, "refusal", str) or ""),
        _plain(reasoning),
        logprob_of(choice) or 0.0,
        len(_logprobs(choice)) or counted,
        _calls(message),
    )


def _calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The calls of a message; their arguments come as text, and from some endpoints as an object."""
    calls = []
    for call in _get(message, "tool_calls", list) or ():
        function = _get(call, "function", dict)
        if name := _get(function, "name", str):
            arguments = function.get("arguments")
            text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
            calls.append(ToolCall(_plain(name), _plain(text) or "{}", _plain(_get(call, "id", str) or "")))
    return tuple(calls)


def _get(value: Any, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """A field of what should be an object, if it is of that kind."""
    field = value.get(name) if isinstance(value, dict) else None
    return field if isinstance(field, kind) else default


def _plain(text: str) -> str:
    """Lone surrogates, which JSON can name, are no text that can be sent or stored."""
    return text.encode("utf-8", "replace").decode()

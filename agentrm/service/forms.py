"""The requests and answers of the scoring service: its own, and those of the reward servers that trainers know."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from agentrm.config.schema import End
from agentrm.core.errors import InputRefused
from agentrm.core.messages import AGENT, Conversation, Message, Tool, checked, checked_tools
from agentrm.evaluation.calibration import Calibration
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Text, Truncated
from agentrm.service.differences import Continued, Kept

_CONVERSATION: Any = [
    {"role": "user", "content": "Your task: go to the red ball. You see: red ball 1 (1 forward)."},
    {"role": "assistant", "content": "go to red ball 1"},
    {"role": "user", "content": "You are in front of red ball 1.\nThe episode has ended."},
]
_TOOL_CALL: Any = [
    {"role": "system", "content": "Answer by looking things up."},
    {"role": "user", "content": "How old is Ada?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"who": "Ada"}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "born 1815"},
]
_LOOK_UP: Any = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "what is known of a person",
            "parameters": {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]},
        },
    }
]


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half of a surrogate pair, which is no character") from error
    return text


def _raw(activation: bool) -> bool:
    if activation:
        raise ValueError("scores are raw: leave this out, or send false")
    return activation


def _unread(value: Any) -> Any:
    if value:
        raise ValueError("no score can be asked for so here: leave this out")
    return value


def _kept(tokens: int) -> int:
    if tokens == 0:
        raise ValueError("nothing would be left to score: send how many tokens to keep, or -1 for what fits")
    return tokens


Words = Annotated[str, AfterValidator(_encodable)]
Flag = Annotated[bool, Field(strict=True)]
Raw = Annotated[Flag, AfterValidator(_raw)]
Unread = Annotated[Any, AfterValidator(_unread)]


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


_TEXT: dict[str, Any] = {"type": "string"}
_PARTS: dict[str, Any] = {"type": "array", "items": _object({"type": {"const": "text"}, "text": _TEXT}, "type", "text")}
_FUNCTION = {"name": _TEXT, "arguments": {"anyOf": [_TEXT, {"type": "object"}]}}
_CALL = _object({"id": _TEXT, "type": {"const": "function"}, "function": _object(_FUNCTION, "name")}, "function")
_SAID = {"content": {"anyOf": [_TEXT, _PARTS]}, "name": _TEXT}
_OF_THE_AGENT = {
    "role": {"const": "assistant"},
    "content": {"anyOf": [_TEXT, _PARTS, {"type": "null"}]},
    "name": _TEXT,
    "reasoning_content": {"anyOf": [_TEXT, {"type": "null"}]},
    "tool_calls": {"anyOf": [{"type": "array", "items": _CALL}, {"type": "null"}]},
}
_MESSAGE = {
    "anyOf": [
        _object({"role": {"enum": ["system", "developer", "user"]}} | _SAID, "role", "content"),
        _object(_OF_THE_AGENT, "role"),
        _object({"role": {"const": "tool"}, "tool_call_id": _TEXT} | _SAID, "role", "content"),
    ]
}
_MESSAGES: dict[str, Any] = {"type": "array", "items": _MESSAGE, "minItems": 1}
_NAMED = {"type": "object", "properties": {"name": _TEXT}, "required": ["name"]}
_TOOLS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"type": {"const": "function"}, "function": _NAMED},
        "required": ["function"],
    },
}


def _messages(given: Any) -> list[Message]:
    try:
        messages = checked(given)
    except InputRefused as error:
        raise ValueError(str(error)) from error
    if not messages:
        raise ValueError("a conversation has at least one message")
    return messages


def _tools(given: Any) -> list[Tool]:
    try:
        return checked_tools(given)
    except InputRefused as error:
        raise ValueError(str(error)) from error


def _conversation(given: Any) -> Conversation | Continued:
    if not isinstance(given, dict):
        return Conversation(_messages(given))
    if unknown := sorted(set(given) - {"messages", "tools", "after"}):
        raise ValueError(f"a conversation has messages and tools, not {unknown[0]}")
    if (after := given.get("after")) is not None:
        if not isinstance(after, str) or "tools" in given:
            raise ValueError("after is the name of a kept conversation, which has its tools: send messages beside it")
        return Continued(after, _messages(given.get("messages")))
    return Conversation(_messages(given.get("messages")), _tools(given.get("tools")))


# By our own rules, which name the field: a request may hold thousands of messages, and the renderer reads dictionaries.
Messages = Annotated[list[Message], PlainValidator(_messages), WithJsonSchema(_MESSAGES)]
Tools = Annotated[list[Tool], PlainValidator(_tools), WithJsonSchema(_TOOLS)]
ConversationForm = Annotated[
    Conversation | Continued,
    PlainValidator(_conversation),
    WithJsonSchema(
        {
            "anyOf": [
                _MESSAGES,
                _object({"messages": _MESSAGES, "tools": _TOOLS}, "messages"),
                _object({"messages": _MESSAGES, "after": _TEXT}, "messages", "after"),
            ]
        }
    ),
]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31, strict=True)]], Field(min_length=1)]


class ScoreRequest(BaseModel):
    """Conversations in OpenAI's form, each a list of messages or an object with `messages` and `tools`; or `messages`
    and `tools` of one; or token ids, which are read as they are. The value of each is the one at its end: of a state
    after the environment's turn, of an action after the agent's.

    `per` = `step` asks for one score after the opening and after each step (a message of the agent with all that
    answers it) in place of one for the whole; it needs conversations. `calibrated` asks for probabilities of success in
    place of raw values, from a model that has a calibration.

    With `keep` the answer names each conversation, and a later request may send `{"after": NAME, "messages": [...]}`,
    the messages that follow, in place of a whole one; 409 says that the name is not known, or not any more.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"conversations": [_CONVERSATION]},
                {"conversations": [_CONVERSATION], "per": "step"},
                {"messages": _TOOL_CALL, "tools": _LOOK_UP},
                {"token_ids": [[1, 5, 8], [1, 5, 9, 2]]},
            ]
        },
    )

    model: str | None = None
    conversations: Annotated[list[ConversationForm], Field(min_length=1)] | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    token_ids: Annotated[list[TokenIds], Field(min_length=1)] | None = None
    per: Literal["input", "step"] = "input"
    calibrated: Flag = False
    keep: Flag = False

    @model_validator(mode="after")
    def _check_one(self) -> ScoreRequest:
        if sum(given is not None for given in (self.conversations, self.messages, self.token_ids)) != 1:
            raise ValueError("send either conversations, messages or token_ids")
        if self.tools is not None and self.messages is None:
            raise ValueError("tools go with messages: give each of several conversations its own")
        if self.token_ids is not None and self.per == "step":
            raise ValueError("scores per step need conversations: token ids do not show where steps end")
        return self

    def complete(self, kept: Kept) -> None:
        """Put what conversations continue before them. Raises UnknownBeginning."""
        if self.conversations is not None:
            self.conversations = [kept.whole(conversation) for conversation in self.conversations]

    def inputs(self) -> list[Input]:
        """What is to be scored, in order, of a request that is complete."""
        if self.messages is not None:
            return [Conversation(self.messages, self.tools or ())]
        return cast("list[Input]", self.conversations or self.token_ids)

    def ends(self) -> list[End | None]:
        """Where each input's values are read; None for token ids, which do not tell."""
        return [
            None
            if not isinstance(model_input, Conversation)
            else End.action
            if self.per == "input" and model_input.messages[-1]["role"] == AGENT
            else End.state
            for model_input in self.inputs()
        ]


class Usage(BaseModel):
    """Tokens read; `cached_tokens` of them were not computed again, as the replica held their prefix. `left_out_tokens`
    were not read, by a model that declares how it shortens what exceeds its context; others refuse that.
    """

    prompt_tokens: int
    cached_tokens: int
    left_out_tokens: int


class ScoreResponse(BaseModel):
    """Raw values (no sigmoid), one per input in the order of the request, or one per step of it; higher is better.
    Where the request is `calibrated`, probabilities of success. `at`: whether the values of each input are those of a
    `state`, read where the environment's turn ends, or of an `action`, where the agent's does; null for token ids,
    which do not tell. `kept`: what the request's conversations are named, where it asked for that.
    """

    model: str
    scores: list[float] | list[list[float]]
    at: list[End | None]
    usage: Usage
    kept: list[str] | None = None

    @classmethod
    def of(
        cls,
        model: str,
        scores: Sequence[Reading],
        request: ScoreRequest,
        calibrations: Mapping[End, Calibration],
        kept: Kept,
    ) -> ScoreResponse:
        """The answer to a `ScoreRequest`, which may need one of the model's `calibrations`."""
        values = [reading.values for reading in scores]
        if request.calibrated:
            ends = [end or End.state for end in request.ends()]
            values = [calibrations[end](own).tolist() for end, own in zip(ends, values, strict=True)]
        usage = Usage(
            prompt_tokens=_tokens(scores),
            cached_tokens=sum(reading.cached for reading in scores),
            left_out_tokens=sum(reading.left_out for reading in scores),
        )
        scored = values if request.per == "step" else [own[0] for own in values]
        names = None
        if request.keep:
            names = [
                kept.keep(model_input) if isinstance(model_input, Conversation) else ""
                for model_input in request.inputs()
            ]
        return cls(model=model, scores=scored, at=request.ends(), usage=usage, kept=names)


class VllmRequest(BaseModel):
    """vLLM's request for scores: `input`, texts that a chat template has rendered or token ids, or else `messages`, one
    conversation. Of longer inputs `truncate_prompt_tokens` are read, -1 for what fits the context: the first ones, or
    the last by `truncation_side` = `left`. Scores are raw, so that `use_activation` (`activation` before vLLM 0.11.2)
    must not be true. What else would change a score is refused; fields that are not known are passed over, as in vLLM.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "any", "input": ["<user> go to the ball", "<user> open the box"], "use_activation": False},
                {"input": [[1, 5, 8], [1, 5, 9, 2]]},
                {"messages": _CONVERSATION},
            ]
        }
    )

    model: str | None = None
    input: (
        Words
        | TokenIds
        | Annotated[list[Words], Field(min_length=1)]
        | Annotated[list[TokenIds], Field(min_length=1)]
        | None
    ) = None
    messages: Messages | None = None
    tools: Tools | None = None
    add_special_tokens: Flag | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1), AfterValidator(_kept)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    padding: Literal["do_not_pad"] | None = None
    use_activation: Raw | None = None
    activation: Raw | None = None
    softmax: Raw | None = None
    normalize: Raw | None = None
    add_generation_prompt: Unread = None
    continue_final_message: Unread = None
    chat_template: Unread = None
    chat_template_kwargs: Unread = None

    @model_validator(mode="after")
    def _check_one(self) -> VllmRequest:
        if (self.input is None) == (self.messages is None):
            raise ValueError("send either input or messages")
        if self.messages is not None and self.add_special_tokens:
            raise ValueError("add_special_tokens is for input: the chat template of messages adds its own")
        return self

    def inputs(self) -> list[Input]:
        """What is to be scored, in order."""
        if self.truncate_prompt_tokens is None:
            return self._whole()
        return [Truncated(whole, self.truncate_prompt_tokens, self.truncation_side) for whole in self._whole()]

    def _whole(self) -> list[Any]:
        if self.messages is not None:
            return [Conversation(self.messages, self.tools or ())]
        given: Any = self.input
        alone = isinstance(given, str) or isinstance(given[0], int)
        return [
            Text(prompt, self.add_special_tokens is not False) if isinstance(prompt, str) else prompt
            for prompt in ([given] if alone else given)
        ]


class ClassifyRequest(VllmRequest):
    """The request of vLLM's `/classify`."""


class PoolingRequest(VllmRequest):
    """The request of vLLM's `/pooling`: `classify` gives one value, `token_classify` one per token."""

    task: Literal["classify", "token_classify"] | None = None
    encoding_format: Literal["float"] = "float"
    dimensions: Unread = None


class VllmUsage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


def _name(kind: str) -> Any:
    return Field(default_factory=lambda: f"{kind}-{uuid.uuid4().hex}")


class _VllmResponse(BaseModel):
    object: Literal["list"] = "list"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    usage: VllmUsage


class Classification(BaseModel):
    """One input's score; `probs` has vLLM's name and holds a raw value for each label; `label` has the highest."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ClassifyResponse(_VllmResponse):
    """The answer of vLLM's `/classify`."""

    id: str = _name("classify")
    data: list[Classification]

    @classmethod
    def of(cls, model: str, scores: Sequence[Reading], labels: Sequence[str]) -> ClassifyResponse:
        """The answer to a `ClassifyRequest`; `labels` are the names of the model's."""
        data = []
        for number, reading in enumerate(scores):
            values = reading.labels[0] if reading.labels else reading.values
            label = labels[values.index(max(values))]
            data.append(Classification(index=number, label=label, probs=values, num_classes=len(values)))
        return cls(model=model, data=data, usage=_usage(scores))


class Pooled(BaseModel):
    """One input's score in a list, or a list of such lists, one per token."""

    index: int
    object: Literal["pooling"] = "pooling"
    data: list[float] | list[list[float]]


class PoolingResponse(_VllmResponse):
    """The answer of vLLM's `/pooling`."""

    id: str = _name("pool")
    data: list[Pooled]

    @classmethod
    def of(cls, model: str, scores: Sequence[Reading], per_token: bool) -> PoolingResponse:
        """The answer to a `PoolingRequest`."""
        shaped: list[Any] = []
        for reading in scores:
            rows = reading.labels or [[value] for value in reading.values]
            shaped.append(rows if per_token else rows[0])
        data = [Pooled(index=number, data=values) for number, values in enumerate(shaped)]
        return cls(model=model, data=data, usage=_usage(scores))


class RewardRequest(BaseModel):
    """OpenRLHF's request to a remote reward model: prompts with responses, rendered, which end where the model has
    learned values. Other fields are passed over.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": ["<user> go to the ball <agent> go to ball 1 <user> The ball is near."]}]
        }
    )

    query: Annotated[list[Words], Field(min_length=1)]

    def inputs(self) -> list[Input]:
        """What is to be scored, in order."""
        return [Text(text, special=False) for text in self.query]


class RewardResponse(BaseModel):
    """The answer that OpenRLHF reads: raw values as rewards and as scores."""

    rewards: list[float]
    scores: list[float]

    @classmethod
    def of(cls, scores: Sequence[Reading]) -> RewardResponse:
        """The answer to a `RewardRequest`."""
        values = [reading.values[0] for reading in scores]
        return cls(rewards=values, scores=values)


class Model(BaseModel):
    """A model that this server scores with; `context` in tokens. `learned`: where its values were learned, and mean
    something, as in a score's `at`; empty where the model does not tell.
    """

    id: str
    object: Literal["model"] = "model"
    context: int
    learned: list[End]


class ModelList(BaseModel):
    """All models of this server."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """The engine runs."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """What went wrong and what to change; `field` names the part of the request, where one is at fault."""

    message: str
    field: str | None = None


class ErrorBody(BaseModel):
    """The body of every status that is not 200."""

    error: Problem


def _tokens(scores: Sequence[Reading]) -> int:
    return sum(reading.tokens for reading in scores)


def _usage(scores: Sequence[Reading]) -> VllmUsage:
    tokens = _tokens(scores)
    return VllmUsage(prompt_tokens=tokens, total_tokens=tokens)

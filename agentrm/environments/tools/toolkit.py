"""Typed tools: methods that an agent calls as `tool_name with Action Input: {json arguments}`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema

from agentrm.core import messages
from agentrm.core.messages import ToolCall

ACTION_FORM = "tool_name with Action Input: {json arguments}"
_ACTION = re.compile(r"\s*(\S+)\s+with\s+Action\s+Input:\s*(.*)", re.DOTALL)
_QUOTED_CHARACTERS = 80
_ERRORS_SHOWN = 3
_JSON_INVALID = "json_invalid"
# How the manual begins for a tool that does something; others are what they return.
_DOES = re.compile(r"(?:load|make|mark|change|delete|open|freeze|insert|set|compute|sort|merge)\b")

Function = TypeVar("Function", bound=Callable[..., Any])
_tools: set[Callable[..., Any]] = set()


class ToolError(Exception):
    """A call that a tool refuses; its text is for the agent."""


def tool(function: Function) -> Function:
    """Make a method a tool: its annotations are the types of the arguments, its docstring is what the agent reads."""
    _tools.add(function)
    return function


class _Untitled(GenerateJsonSchema):
    """Schemas whose fields have no titles, which only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: `arguments` validates them, `signature` and `meaning` tell the agent about them."""

    name: str
    signature: str
    meaning: str
    arguments: type[BaseModel]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        hints = get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        fields: dict[str, Any] = {
            parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
            for parameter in parameters
        }
        config = ConfigDict(extra="forbid", allow_inf_nan=False)
        model = create_model(function.__name__, __config__=config, **fields)
        properties = model.model_json_schema().get("properties", {})
        texts = [f"{name}: {_type_text(schema)}" for name, schema in properties.items()]
        signature = f"{function.__name__}({', '.join(texts)})"
        return cls(function.__name__, signature, inspect.getdoc(function) or "", model)

    @property
    def schema(self) -> messages.Tool:
        """The tool as a function on offer."""
        parameters = self.arguments.model_json_schema(schema_generator=_Untitled)
        parameters.pop("title")
        function = {"name": self.name, "description": self.meaning, "parameters": parameters}
        return {"type": "function", "function": function}

    def parse(self, text: str) -> dict[str, Any]:
        """The validated arguments in a JSON text. Raises ToolError."""
        try:
            return dict(self.arguments.model_validate_json(text))
        except ValidationError as error:
            raise ToolError(f"{self.name}: {_validation_text(error)}") from error


class Toolkit:
    """Tools over one world. Subclasses add methods marked with `@tool`, among them `finish`."""

    tools: ClassVar[dict[str, Tool]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        functions = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
        own_first = [name for base in cls.__mro__ for name in vars(base)]
        cls.tools = {name: Tool.of(functions[name]) for name in own_first if _is_tool(functions[name])}

    @tool
    def check_valid_actions(self) -> list[str]:
        """the names of all tools"""
        return list(self.tools)

    @classmethod
    @cache
    def schemas(cls) -> tuple[messages.Tool, ...]:
        """All tools as functions on offer."""
        return tuple(own_tool.schema for own_tool in cls.tools.values())

    @classmethod
    def manual(cls) -> str:
        """All tools, one line each."""
        return "\n".join(f"- {own_tool.signature}: {own_tool.meaning}" for own_tool in cls.tools.values())

    def values(self) -> dict[str, list[Any]]:
        """Values that arguments may have in this world; equal positions belong together."""
        raise NotImplementedError

    @classmethod
    def parse(cls, action: str) -> tuple[str, dict[str, Any]]:
        """The name of the tool and its arguments. Raises ToolError."""
        match = _ACTION.fullmatch(action)
        if match is None:
            raise ToolError(f"an action has the form: {ACTION_FORM}")
        name, arguments = match.groups()
        if name not in cls.tools:
            known = ", ".join(cls.tools)
            raise ToolError(f"there is no tool {name[:_QUOTED_CHARACTERS]}: choose one of {known}")
        return name, cls.tools[name].parse(arguments)

    def purpose(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Why an agent would make this call, as far as the manual says it."""
        meaning = self.tools[name].meaning.split(";")[0].split(":")[0].split(",")[0].rstrip(".")
        given = ", ".join(f"{key}={value}" for key, value in arguments.items() if value is not None)
        about = f" For {given}." if 0 < len(given) <= _QUOTED_CHARACTERS else ""
        if _DOES.match(meaning):
            return f"Now I have to {meaning}.{about}"
        return f"I need to know {meaning}.{about}"

    def run(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool with validated arguments; what it returns is plain JSON. Raises ToolError."""
        return getattr(self, name)(**arguments)

    def calls(self) -> list[str]:
        """Calls of every tool with the values of this world."""
        values = self.values()
        actions = []
        for own_tool in self.tools.values():
            names = list(own_tool.arguments.model_fields)
            if all(name in values for name in names):
                rows = zip(*(values[name] for name in names), strict=False) if names else [()]
                actions += [write_action(own_tool.name, dict(zip(names, row, strict=True))) for row in rows]
        return actions


def write_action(name: str, arguments: Mapping[str, Any]) -> str:
    """The action that calls a tool."""
    return f"{name} with Action Input: {json.dumps(dict(arguments), ensure_ascii=False)}"


def read_call(action: str) -> ToolCall:
    """The call that `write_action` wrote."""
    match = _ACTION.fullmatch(action)
    assert match is not None
    return ToolCall(*match.groups())


def write_result(result: Any) -> str:
    """What the agent reads after a call."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _is_tool(value: Any) -> bool:
    return inspect.isfunction(value) and value in _tools


def _type_text(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words, with the default where there is one."""
    if "default" in schema:
        kinds = _type_text({key: value for key, value in schema.items() if key != "default"})
        return f"{kinds} = {json.dumps(schema['default'])}"
    if "anyOf" in schema:
        return " or ".join(_type_text(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return " or ".join(json.dumps(choice) for choice in schema["enum"])
    if schema["type"] == "array":
        items = schema["items"]
        return f"list of ({_type_text(items)})" if "anyOf" in items else f"list of {_type_text(items)}"
    return schema.get("format") or schema["type"]


def _validation_text(error: ValidationError) -> str:
    """The first errors in pydantic's own words, each after the argument that it is about."""
    texts = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False)[:_ERRORS_SHOWN]:
        where = ".".join(str(part) for part in detail["loc"])[:_QUOTED_CHARACTERS]
        message = "the arguments must be a JSON object" if detail["type"] == "model_type" else detail["msg"]
        texts.append(f"{where}: {message}" if where and detail["type"] != _JSON_INVALID else message)
    return "; ".join(texts)

"""Tools on offer and calls of them, as environments write and read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agentrm.core.messages import Tool, ToolCall


def text_tool(name: str, description: str, argument: str, meaning: str) -> Tool:
    """A function on offer that takes one text."""
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string", "description": meaning}},
        "required": [argument],
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def text_argument(arguments: Mapping[str, Any], name: str) -> str:
    """An argument of a call that must be text. Raises ValueError where it is not."""
    value = arguments.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    return value


def write_call(name: str, arguments: Mapping[str, Any]) -> ToolCall:
    """A call with these arguments."""
    return ToolCall(name, json.dumps(dict(arguments), ensure_ascii=False))

"""The dataset card beside exported rows, from which `datasets` knows the type of each column.

Left to itself it takes the types of the first split, in which messages may have fewer fields than in the next.
"""

from __future__ import annotations

from typing import Any

import yaml

Feature = Any
"""The name of a type, a list of one feature, or a dictionary of features."""

_CALL = {"id": "string", "type": "string", "function": {"name": "string", "arguments": "string"}}
MESSAGES: Feature = [
    {
        "role": "string",
        "content": "string",
        "reasoning_content": "string",
        "tool_calls": [_CALL],
        "tool_call_id": "string",
        "name": "string",
    }
]


def card(columns: dict[str, Feature]) -> str:
    """The card's text."""
    information = {"dataset_info": {"features": _listed(columns)}}
    return f"---\n{yaml.safe_dump(information, sort_keys=False)}---\n"


def _listed(columns: dict[str, Feature]) -> list[dict[str, Any]]:
    return [{"name": name, **_typed(feature)} for name, feature in columns.items()]


def _typed(feature: Feature) -> dict[str, Any]:
    if isinstance(feature, str):
        return {"dtype": feature}
    if isinstance(feature, dict):
        return {"struct": _listed(feature)}
    (item,) = feature
    return {"list": item if isinstance(item, str) else _listed(item)}

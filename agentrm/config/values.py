"""From YAML and `key=value` to values of the schema's types, and back: text is taken as it is written.

YAML alone makes a number of 0123, and of `a #b` a comment; where the schema says text, neither happens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from yaml.constructor import ConstructorError

from agentrm.config.schema import Config

_NULL, _TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"

# OmegaConf interpolates ${...} and takes ??? for a value that is missing; a backslash makes either of them text.
_INTERPOLATIONS = re.compile(r"(\\*)(\$\{)")
_BUT_VARIABLES = re.compile(r"(\\*)(\$\{(?!\s*oc\.env\s*:[^{}]*\}))")
_BREAKS = re.compile("[\\r\\x85\\u2028\\u2029]")
_MISSING = re.compile(r"\\*\?\?\?")


class _Loader(yaml.SafeLoader):
    """Takes 1e-5 for a number, as YAML 1.2 does, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ConstructorError(None, None, f"the key {twice[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Writes line breaks other than \\n as escapes: between other quotes YAML folds them into spaces."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar(_TEXT, data, style='"' if _BREAKS.search(data) else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def verbatim(text: str) -> str:
    """A text for OmegaConf, in which every character stands for itself."""
    text = _INTERPOLATIONS.sub(r"\1\1\\\2", text)
    return f"\\{text}" if _MISSING.fullmatch(text) else text


def with_variables(text: str) -> str:
    """A text for OmegaConf, in which `${oc.env:NAME}` stands for a variable of the environment, `???` alone for no
    value, and every other character for itself.
    """
    text = _BUT_VARIABLES.sub(r"\1\1\\\2", text)
    return f"\\{text}" if text != "???" and _MISSING.fullmatch(text) else text


def type_of(key: str) -> Any:
    """The schema's type of a dotted key, None for one that it does not have."""
    expected: Any = Config
    for name in re.findall(r"[^.\[\]]+", key):
        expected = _field(expected, name) if is_dataclass(expected) else _element(expected)
    return expected


def read(text: str, expected: Any, take: Callable[[str], str] = with_variables) -> Any:
    """YAML as values of a type of the schema, each of its texts as `take` gives it. Raises YAMLError."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        # An alias is the node that it stands for.
        for scalar in set(_texts(node, expected)):
            scalar.tag, scalar.value = _TEXT, take(scalar.value)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def plain(value: Any) -> Any:
    """A part of the configuration as dictionaries and lists, with the names of choices."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list):
        return [plain(item) for item in value]
    # OmegaConf marks a text that looks like a missing value by a class of its own.
    return str(value) if isinstance(value, str) else value


def to_yaml(part: Any) -> str:
    """A part of the configuration as YAML, whose texts any reader takes for texts."""
    return yaml.dump(plain(part), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _texts(node: yaml.Node | None, expected: Any) -> Iterator[yaml.ScalarNode]:
    """The scalars that the schema takes for texts, whatever YAML takes them for."""
    if isinstance(node, yaml.MappingNode) and is_dataclass(expected):
        for key, value in node.value:
            yield from _texts(value, _field(expected, key.value))
    elif isinstance(node, yaml.SequenceNode) and (element := _element(expected)):
        for value in node.value:
            yield from _texts(value, element)
    elif isinstance(node, yaml.ScalarNode) and node.tag != _NULL and is_text(expected):
        yield node


def is_text(expected: Any) -> bool:
    """Whether values of a type of the schema are texts or the names of choices."""
    return isinstance(expected, type) and issubclass(expected, str)


def _field(owner: Any, name: Any) -> Any:
    """The type of a field; of one that may be None, the type that it has else."""
    hint = get_type_hints(owner).get(name) if isinstance(name, str) else None
    if get_origin(hint) is UnionType:
        (hint,) = (member for member in get_args(hint) if member is not type(None))
    return hint


def _element(owner: Any) -> Any:
    return get_args(owner)[0] if get_origin(owner) is list else None

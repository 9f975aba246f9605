"""Configuration files: where a preset or a file lies, and what it says together with what it extends."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import yaml
from yaml import MappingNode, Node, ScalarNode, YAMLError

from agentrm.core.errors import UserError

PRESETS = Path(__file__).parent / "presets"

_EXTENDS = "extends"


def presets() -> list[str]:
    """The names that need no path."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read(source: str) -> tuple[Path, str]:
    """The file that a preset's name or a path stands for, and its YAML.

    `extends: NAME` in a file, with a preset's name or a path from the file's own folder, puts what the file says over
    what the named one says, which may extend another. Mappings are merged key by key; a list replaces the list below
    it, as any other value does. The YAML returned has no `extends`, and writes each value as its file does.

    Raises UserError for a file that is missing or cannot be read, and for files that extend each other in a circle.
    """
    path = _located(source, Path())
    if not path.is_file():
        raise UserError(f"no preset or file {source}: the presets are {', '.join(presets())}")
    text = _text(path)
    node = _composed(text, path)
    if not isinstance(node, MappingNode):
        return path, text
    files, nodes = [path], [node]
    while (base := _base(files[-1], nodes[-1])) is not None:
        if any(base.samefile(file) for file in files):
            circle = " extends ".join(map(str, [*files, base]))
            raise UserError(f"{circle}, a circle: take {_EXTENDS} out of one of them")
        node = _composed(_text(base), base)
        if not isinstance(node, MappingNode):
            raise UserError(f"{files[-1]} extends {base}, which holds no keys: write lines such as seed: 0 there")
        files.append(base)
        nodes.append(node)
    if len(nodes) == 1:
        return path, text
    merged = reduce(lambda below, node: _over(node, below), reversed(nodes))
    merged.value = [entry for entry in merged.value if entry[0].value != _EXTENDS]
    return path, yaml.serialize(merged)


def _located(source: str, folder: Path) -> Path:
    return PRESETS / f"{source}.yaml" if source in presets() else folder / source


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', 'it is no text')}") from error


def _composed(text: str, path: Path) -> Node | None:
    try:
        return yaml.compose(text, yaml.SafeLoader)
    except YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error


def _base(path: Path, node: MappingNode) -> Path | None:
    """The file that a file extends. Raises UserError if it is missing."""
    named = [value for key, value in node.value if key.value == _EXTENDS]
    if not named:
        return None
    if len(named) > 1 or not isinstance(named[0], ScalarNode):
        raise UserError(f"the key {_EXTENDS} of {path} names several files: name one, which may extend the next")
    base = _located(named[0].value, path.parent)
    if not base.is_file():
        raise UserError(
            f"the key {_EXTENDS} of {path} is {named[0].value!r}, no preset or file: give a path from {path.parent}, "
            f"or one of the presets {', '.join(presets())}"
        )
    return base


def _over(node: MappingNode, below: MappingNode) -> MappingNode:
    """The keys of both: a value of `node` goes before one below, and over it if both are mappings."""
    entries = []
    for key, value in node.value:
        old = next((old for name, old in below.value if name.value == key.value), None)
        if isinstance(value, MappingNode) and isinstance(old, MappingNode):
            value = _over(value, old)
        entries.append((key, value))
    names = [key.value for key, _ in entries]
    return MappingNode(node.tag, [entry for entry in below.value if entry[0].value not in names] + entries)

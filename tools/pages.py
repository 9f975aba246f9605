"""A hook of MkDocs: the pages that are made at every build, and never committed.

`keys.md` holds every key of the configuration, from the schema; `reference/` the API, a page per package, from the
docstrings; `contributing.md` and `changelog.md` are the files that lie beside the README.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING as NOTHING
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import omegaconf

import agentrm
import agentrm.search
from agentrm.config import schema
from agentrm.config.files import PRESETS, presets

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(agentrm.__file__).parent
TYPES = {int: "integer", float: "number", str: "text", bool: "true or false"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that lie in `docs`."""
    from mkdocs.structure.files import File

    for path, text in {"keys.md": keys(), **reference(), **beside("CONTRIBUTING.md", "CHANGELOG.md")}.items():
        files.append(File.generated(config, path, content=text))
    return files


def keys() -> str:
    """Every key of the configuration by group: its type, its default and what it must be."""
    lines = ["# Every key", "", "Made from `agentrm/config/schema.py`, so it is what this version has.", ""]
    lines += ["## Presets", "", "| preset | |", "|---|---|"]
    lines += [f"| `{name}` | {_about(PRESETS / f'{name}.yaml')} |" for name in presets()]
    return "\n".join([*lines, *_group("The run", "", schema.Config)]) + "\n"


def reference() -> dict[str, str]:
    """The pages of the API by path."""
    public = ["# Public names", "", "Those of `agentrm` are imported when they are first used."]
    for package in (agentrm, agentrm.search):
        homes = {name: getattr(package, name).__module__ for name in sorted(package.__all__)}
        public += ["", f"| from `{package.__name__}` | lives in |", "|---|---|"]
        public += [f"| [`{name}`][{home}.{name}] | `{home}` |" for name, home in homes.items()]
    pages = {"reference/index.md": "\n".join([*public, ""])}
    for path in sorted(ROOT.iterdir()):
        name = path.stem
        if name.startswith("_") or not (path.suffix == ".py" or (path / "__init__.py").is_file()):
            continue
        modules = [path, *sorted(path.rglob("*.py"))] if path.is_dir() else [path]
        names = [".".join(module.relative_to(ROOT.parent).with_suffix("").parts) for module in modules]
        shown = [f"::: {dotted}" for dotted in names if not dotted.endswith("__init__")]
        pages[f"reference/{name}.md"] = "\n\n".join([f"# agentrm.{name}", *shown, ""])
    return pages


def beside(*names: str) -> dict[str, str]:
    """The pages of files that lie beside the README, whose links are to `docs/`."""
    return {name.lower(): (ROOT.parent / name).read_text().replace("](docs/", "](") for name in names}


def _group(heading: str, prefix: str, cls: type) -> Iterator[str]:
    """The section of one group, whose keys begin with `prefix`, and below it those of the groups in it."""
    hints = get_type_hints(cls)
    yield from ["", f"## {heading}", "", _described(cls), "", "| key | type | default | must be |", "|---|---|---|---|"]
    explained, groups = [], []
    entries: dict[type, list[str]] = {}
    for field in fields(cls):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        if is_dataclass(hint):
            groups.append((key, f"{key}.", hint))
            continue
        item = get_args(hint)[0] if get_origin(hint) is list else hint
        if is_dataclass(item):
            entries.setdefault(item, []).append(key)
        elif isinstance(item, type) and issubclass(item, Enum):
            explained += ["", f"`{key}`: {_described(item)}"]
        bound = field.metadata.get("bound")
        yield f"| `{key}` | {_type(hint)} | {_default(field)} | {bound.words if bound else ''} |"
    yield from explained
    groups += [(f"Entries of {', '.join(keys)}", "", item) for item, keys in entries.items()]
    for group in groups:
        yield from _group(*group)


def _type(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return ", or ".join(_type(member) for member in get_args(hint))
    if get_origin(hint) is list:
        return f"list of {_type(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return "mapping"
    if hint is NoneType:
        return "none"
    if is_dataclass(hint):
        return "entries as below"
    if issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    return TYPES[hint]


def _default(key: Field[Any]) -> str:
    default = key.default if key.default_factory is NOTHING else key.default_factory()
    if default == omegaconf.MISSING or default is NOTHING:
        return "required"
    if isinstance(default, list):
        default = [item.value if isinstance(item, Enum) else item for item in default]
        return f"`[{', '.join(map(str, default))}]`"
    if default is None:
        return "none"
    if default == {}:
        return "`{}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    shown = default.value if isinstance(default, Enum) else default
    return "empty" if shown == "" else f"`{shown}`"


def _described(cls: type) -> str:
    return cleandoc(cls.__doc__ or "")


def _about(preset: Path) -> str:
    """The comment that a preset begins with."""
    lines = preset.read_text().splitlines()
    comment = next((number for number, line in enumerate(lines) if not line.startswith("#")), 0)
    return " ".join(line.removeprefix("#").strip() for line in lines[:comment])

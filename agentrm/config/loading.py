"""Loading a configuration: a preset or a YAML file, then `key=value` overrides, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from agentrm.config import bounds, files, tasks
from agentrm.config.schema import Config
from agentrm.config.values import is_text, plain, read, to_yaml, type_of, verbatim, with_variables
from agentrm.core.errors import UserError

_SCHEMA = OmegaConf.structured(Config)


def load(source: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a preset's name or a YAML file's path, with dot-list overrides such as `clone.epochs=1`.
    What a file `extends` lies below it (see `files.read`).

    Where the schema says text, what follows the first `=` is taken as it is, as is what a file writes without quotes;
    only `${oc.env:NAME}` in it stands for a variable of the environment.

    Raises UserError that names the key for an unknown key, a value of the wrong type or out of range, an unknown
    environment, kind or split, and a missing value.
    """
    path, text = files.read(source)
    return _checked(_given(text, str(path)), str(path), overrides)


def changed(config: Config, overrides: Sequence[str]) -> Config:
    """A copy of the configuration with overrides. Raises UserError as `load` does."""
    return _checked(_given(to_yaml(config), "the preset", verbatim), "the preset", overrides)


def stored(text: str, name: str) -> Config:
    """The configuration that `resolved` gave; what `load` checks against this machine's environments is taken as it is,
    and so is every text.

    Raises UserError that begins with `name`, the text's file, for what another version of AgentRM wrote.
    """
    try:
        return _merge(_given(text, name, verbatim), name, ())
    except UserError as error:
        raise UserError(f"{name} is of another version of AgentRM, so choose another run=...: {error}") from error


def resolved(config: Config) -> str:
    """The resolved configuration as YAML that `stored` reads back equal, but for the API keys."""
    keyless = {name: replace(getattr(config, name), api_key="") for name in ("serve", "gateway")}
    return to_yaml(replace(config, **keyless))


def flatten(config: Config) -> dict[str, object]:
    """The resolved configuration as `{dotted key: value}`."""

    def walk(node: object, key: str) -> Iterable[tuple[str, object]]:
        if isinstance(node, dict):
            for name in node:
                yield from walk(node[name], ".".join(filter(None, (key, name))))
        else:
            yield key, node

    return dict(walk(plain(config), ""))


def _given(text: str, name: str, take: Callable[[str], str] = with_variables) -> dict[str, Any]:
    """What a file's YAML gives, for OmegaConf. Raises UserError."""
    try:
        given = read(text, Config, take) or {}
    except YAMLError as error:
        raise UserError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise UserError(f"{name} holds no keys: write lines such as seed: 0")
    return given


def _checked(given: dict[str, Any], name: str, overrides: Sequence[str]) -> Config:
    config = _merge(given, name, [_parsed(override) for override in overrides])
    bounds.check(config)
    tasks.check(config)
    return config


def _parsed(override: str) -> tuple[str, Any]:
    """An override's key, and its value for OmegaConf. Raises UserError."""
    key, marked, text = override.partition("=")
    if not marked:
        raise UserError(f"cannot read the override {override!r}: write key=value, such as clone.epochs=1")
    if text == "???":
        raise UserError(f"the override {override} gives no value: write key=value, such as clone.epochs=1")
    expected = type_of(key)
    if is_text(expected):
        return key, with_variables(text)
    try:
        return key, read(text, expected)
    except YAMLError as error:
        raise UserError(f"cannot read the override {override!r}: {' '.join(str(error).split())}") from error


def _merge(given: dict[str, Any], name: str, overrides: Iterable[tuple[str, Any]]) -> Config:
    """The configuration of what `name` gives, with overrides as keys and values."""
    try:
        merged = OmegaConf.merge(_SCHEMA, given)
        for key, value in overrides:
            OmegaConf.update(merged, key, value)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise UserError(f"the key {missing[0]} has no value: give it in {name} or as {missing[0]}=...")
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        raise UserError(f"the key {key} cannot be used: {str(error).splitlines()[0]}") from error
    assert isinstance(config, Config)
    return config

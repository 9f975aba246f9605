"""Groups of equal actors that end with a `with` block and that other actors find by name."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import ray
from ray.actor import ActorHandle


class Fleet:
    """Named actors of this job. Pickled as names: an actor that restarts must hold no handles from its first start."""

    def __init__(self, names: Sequence[str], handles: list[ActorHandle] | None = None) -> None:
        self.names = list(names)
        self._handles = handles

    @classmethod
    def start(cls, actor: Any, count: int, options: dict[str, Any], *arguments: Any) -> Fleet:
        """`count` actors of one Ray actor class, made with the same arguments."""
        prefix = uuid.uuid4().hex
        names = [f"{prefix}-{number}" for number in range(count)]
        return cls(names, [actor.options(name=name, **options).remote(*arguments) for name in names])

    @property
    def handles(self) -> list[ActorHandle]:
        """Handles of all members."""
        if self._handles is None:
            self._handles = [ray.get_actor(name) for name in self.names]
        return self._handles

    def member(self, key: str) -> ActorHandle:
        """The member that serves a key; equal keys have the same one."""
        digest = blake2b(key.encode(), digest_size=8).digest()
        return self.handles[int.from_bytes(digest, "big") % len(self.handles)]

    def __reduce__(self) -> tuple[type[Fleet], tuple[list[str]]]:
        return Fleet, (self.names,)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            ray.kill(handle)

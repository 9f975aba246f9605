"""The passes of an import on a cluster: a task of Ray for each piece of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

T = TypeVar("T")

_WAITING = 2
"""How many pieces of work are handed out for each CPU, so that none waits for the next."""


@ray.remote(max_retries=-1)
def _done(function: Callable[..., T], *arguments: Any) -> T:
    return function(*arguments)


def spread(function: Callable[..., T], works: Sequence[tuple[Any, ...]]) -> Iterator[T]:
    """What a function returns for each work, as they are done. Raises what it raised."""
    lanes = _WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
    queue = iter(works)
    running: set[ray.ObjectRef] = set()
    while True:
        for work in queue:
            running.add(_done.remote(function, *work))
            if len(running) >= lanes:
                break
        if not running:
            return
        (ready,), _ = ray.wait(list(running), num_returns=1)
        running.remove(ready)
        yield ray.get(ready)

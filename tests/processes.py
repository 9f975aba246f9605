"""A process of its own, for engines and drivers that leave traces in theirs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")


def in_new_process(function: Callable[..., T], *arguments: object) -> T:
    """What a module's function returns.

    vLLM keeps process groups and will not start where numba is loaded; Ray keeps the first token that it has seen.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()

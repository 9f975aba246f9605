"""Reward models of any kind by plain transformers, one state after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf, isfinite
from pathlib import Path

from transformers.utils import logging

from agentrm.core.errors import ContextOverflow
from agentrm.core.state import State
from agentrm.model_directory import ModelKind, kind, reward_label
from agentrm.models import adapters, explicit, implicit
from agentrm.models.ensemble import described, lower_confidence
from agentrm.rendering.renderer import Renderer


def load(directory: Path, context: int) -> Callable[[State], float | None]:
    """The value of one state, of an ensemble together. Raises ModelError when the directory holds no whole reward
    model.
    """
    members, penalty = described(directory)
    valued = [_load(member, context) for member in members]

    def together(state: State) -> float | None:
        values = [value(state) for value in valued]
        (bound,) = lower_confidence([[-inf if score is None else score] for score in values], penalty)
        return bound if isfinite(bound) else None

    return together


def _load(directory: Path, context: int) -> Callable[[State], float | None]:
    logging.disable_progress_bar()
    if kind(directory) is ModelKind.implicit:
        ratio = implicit.load(directory, context)

        def trajectory(state: State) -> float | None:
            (value,) = asyncio.run(ratio.score([state]))
            return value if isfinite(value) else None

        return trajectory

    explicit.check(directory)
    reward_label(directory)
    model = adapters.load(directory).eval()
    renderer = Renderer.from_pretrained(directory, context)

    def head(state: State) -> float | None:
        with suppress(ContextOverflow):
            (value,) = explicit.raw_values(model, [renderer.ids(state.conversation())])
            return value
        return None

    return head

"""What the built-in environments share: optional engines, seeds and splits of generated tasks, and words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from agentrm.core.errors import UserError
from agentrm.core.task import SPLITS

GENERATED_SIZES = {"train": 10_000, "valid": 500, "test": 500}
COMPLETED = "The task is completed."
"""What Maze and BabyAI say of a success, in the same words: a reward model that has read them in one knows them in the
other.
"""

_SPLIT_OF_QUARTER = ("train", "train", "valid", "test")


@contextmanager
def engine_import(engine: str, extra: str) -> Iterator[None]:
    """Turn a failing import inside the block into the UserError that names the extra to install."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{engine} needs `pip install agentrm[{extra}]` ({error})") from error


def check_kind(name: str, kinds: tuple[str, ...], kind: str, split: str) -> None:
    """Raise UserError unless the environment has this kind and this split."""
    if kind not in kinds:
        raise UserError(f"{name} has no kind {kind!r}: choose from {', '.join(kinds)}")
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")


def derive_seed(*parts: object) -> int:
    """A 32-bit seed from any parts; the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def split_of(content: str) -> str:
    """The split that owns a generated instance, decided by its content alone.

    A generator draws until the instance falls into the split that was asked for; so no instance is in two splits,
    whatever the seeds.
    """
    return _SPLIT_OF_QUARTER[derive_seed(content) % len(_SPLIT_OF_QUARTER)]


def digest(*parts: object) -> str:
    """A fingerprint of plain values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def at_least(actions: int) -> str:
    """How far oracles think that it is: one sentence for all, so that what is learned of it in one environment can be
    read in another.
    """
    return f"At least {actions} more {'action' if actions == 1 else 'actions'}."

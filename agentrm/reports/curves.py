"""Training curves out of TensorBoard event files."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboardX.proto.event_pb2 import Event


def read_curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """`{tag: [(step, value), ...]}`, sorted by step, of all event files under `directory`.

    The latest value of a step wins; a file that was cut short is read as far as it is whole.
    """
    events = sorted(
        (event for path in sorted(directory.rglob("events.out.tfevents.*")) for event in _events(path)),
        key=lambda event: event.wall_time,
    )
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for event in events:
        for value in event.summary.value:
            curves[value.tag][event.step] = value.simple_value
    return {tag: sorted(points.items()) for tag, points in curves.items()}


def _events(path: Path) -> Iterator[Event]:
    from tensorboardX.proto.event_pb2 import Event

    # A record is: length (8 bytes), its checksum (4), the message, its checksum (4).
    data = path.read_bytes()
    start = 0
    while start + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        end = start + 12 + length
        if end + 4 > len(data):
            return
        yield Event.FromString(data[start + 12 : end])
        start = end + 4

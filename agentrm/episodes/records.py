"""The records of a file, one at a time: lines of JSON, a JSON document or list, rows of Parquet."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO, cast

import pyarrow.parquet as pq

from agentrm.episodes.sources import COMPRESSED

LONGEST = 32 * 2**20
"""Bytes of one record: longer ones are refused before they fill the memory."""

_CHUNK = 1 << 20
_ROWS = 128
_LITERAL = 16
_TOO_LONG = f"longer than {LONGEST >> 20} MiB: take it out or split it"

Numbered = tuple[int, Any]
"""The line or row, from 1, and the record, or why it cannot be read: a ValueError."""


def records(stream: BinaryIO, name: str) -> Iterator[Numbered]:
    """All records of a file of this name, with those that cannot be read. Raises one of `sources.DAMAGED`."""
    lower = name.lower()
    for ending in COMPRESSED:
        lower = lower.removesuffix(ending)
    if lower.endswith(".parquet"):
        yield from _rows(stream)
    elif lower.endswith(".json"):
        yield from _document(stream)
    else:
        yield from _lines(stream)


def _rows(stream: BinaryIO) -> Iterator[Numbered]:
    numbers = count(1)
    with pq.ParquetFile(stream, pre_buffer=False) as file:
        for batch in file.iter_batches(_ROWS):
            yield from ((next(numbers), _without_nulls(row)) for row in batch.to_pylist())


def _without_nulls(value: Any) -> Any:
    """A value without the fields that only other rows have: a column has one type, and so every struct all fields."""
    if isinstance(value, dict):
        return {name: _without_nulls(field) for name, field in value.items() if field is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _lines(stream: BinaryIO) -> Iterator[Numbered]:
    for number in count(1):
        line = stream.readline(LONGEST + 1)
        if not line:
            return
        if len(line) > LONGEST:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_CHUNK)
            yield number, ValueError(_TOO_LONG)
        elif line.strip():
            yield number, _parsed(line)


def _document(stream: BinaryIO) -> Iterator[Numbered]:
    """The records of a list, or the one that a document is; many files of lines end in .json as well."""
    buffered: io.BufferedReader = io.BufferedReader(cast(io.RawIOBase, stream), _CHUNK)
    start = buffered.peek().lstrip(b"\xef\xbb\xbf \t\r\n")
    first, newline, _ = start.partition(b"\n")
    if start.startswith(b"["):
        yield from _items(buffered)
    elif not newline or not isinstance(_parsed(first), ValueError):
        yield from _lines(cast(BinaryIO, buffered))
    else:
        whole = buffered.read(LONGEST + 1)
        yield 1, ValueError(_TOO_LONG) if len(whole) > LONGEST else _parsed(whole)


def _items(stream: io.BufferedReader) -> Iterator[Numbered]:
    """The items of a list, which is never held whole. Behind one that is no JSON none is found."""
    decoder, utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")()
    text, place, ended, begun = "", 0, False, False
    for number in count(1):
        while True:
            # What stands between items.
            while place < len(text) and text[place] in " \t\r\n," + ("" if begun else "["):
                begun = begun or text[place] == "["
                place += 1
            if place < len(text) and text[place] == "]":
                return
            try:
                item, place = decoder.raw_decode(text, place)
                break
            except (json.JSONDecodeError, RecursionError) as error:
                if ended or isinstance(error, RecursionError) or _certain(error, text):
                    yield number, ValueError(f"no JSON: {error}")
                    return
            if len(text) - place > LONGEST:
                yield number, ValueError(_TOO_LONG)
                return
            text, place = text[place:], 0
            chunk = stream.read(max(_CHUNK, len(text)))
            ended = not chunk
            try:
                text += utf8.decode(chunk, final=ended)
            except UnicodeDecodeError as error:
                yield number, ValueError(f"no UTF-8: {error.reason}")
                return
        yield number, item


def _certain(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text cannot help: the error is neither at the end nor a string that has not ended."""
    return not error.msg.startswith("Unterminated") and error.pos < len(text) - _LITERAL


def _parsed(given: bytes) -> Any:
    try:
        return json.loads(given)
    except UnicodeDecodeError as error:
        return ValueError(f"no UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return ValueError(f"no JSON: {error}")

"""A shop of any size on disk: products, goals and the full-text index in files that all processes map into memory.

It is built once, in one pass over the products; what a process holds of it beyond shared pages is a few megabytes.
"""

from __future__ import annotations

import json
import shutil
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fcntl import LOCK_EX, flock
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

import numpy as np

from agentrm.environments.webshop.catalogue import K1, PRODUCTS_PER_PAGE, RESULTS_KEPT, B, Catalogue, Product, terms
from agentrm.environments.webshop.goals import Goal

# A change of what the files hold needs another number: no older ones may pass for them.
RULE = 1
_META = "meta.json"
_KEPT = 4096

Item = TypeVar("Item")


class Lines(Sequence[Item], Generic[Item]):
    """Objects stored as lines of JSON, read one by one; `chosen` are the numbers of those that it holds."""

    def __init__(self, path: Path, read: Callable[[dict[str, Any]], Item], chosen: np.ndarray | None = None) -> None:
        self._text = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        self._ends = np.load(path.with_suffix(".npy"), mmap_mode="r")
        self._chosen = chosen
        self._read = lru_cache(maxsize=_KEPT)(lambda number: read(json.loads(self._bytes(number))))

    def __len__(self) -> int:
        return len(self._ends if self._chosen is None else self._chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self._read(index if self._chosen is None else int(self._chosen[index]))

    def _bytes(self, number: int) -> bytes:
        start = int(self._ends[number - 1]) if number else 0
        return self._text[start : int(self._ends[number])].tobytes()


class _Words(Sequence[bytes]):
    """Sorted words in one file."""

    def __init__(self, path: Path) -> None:
        self._text = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        self._ends = np.load(path.with_suffix(".npy"), mmap_mode="r")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: Any) -> Any:
        start = int(self._ends[number - 1]) if number else 0
        return self._text[start : int(self._ends[number])].tobytes()


class _Products(Mapping[str, Product]):
    def __init__(self, folder: Path) -> None:
        self._lines: Lines[Product] = Lines(folder / "products.jsonl", _product)
        self.asins = np.load(folder / "asins.npy", mmap_mode="r")
        self._sorted = np.load(folder / "sorted_asins.npy", mmap_mode="r")
        self._places = np.load(folder / "places.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.asins)

    def __iter__(self) -> Iterator[str]:
        return (asin.decode() for asin in self.asins)

    def __getitem__(self, asin: str) -> Product:
        wanted = asin.encode()
        place = int(np.searchsorted(self._sorted, wanted))
        if place == len(self) or self._sorted[place] != wanted:
            raise KeyError(asin)
        product: Product = self._lines[int(self._places[place])]
        return product


class StoredCatalogue(Catalogue):
    """The products and the index of a folder that a `Builder` wrote."""

    def __init__(self, folder: Path) -> None:
        self.products = self._stored = _Products(folder)
        self.brief, self.per_page = False, PRODUCTS_PER_PAGE
        self._words = _Words(folder / "words.bin")
        self._starts = np.load(folder / "starts.npy", mmap_mode="r")
        self._documents = np.load(folder / "documents.npy", mmap_mode="r")
        self._weights = np.load(folder / "weights.npy", mmap_mode="r")

    def search(self, keywords: str) -> tuple[str, ...]:
        scores = np.zeros(len(self._stored), np.float32)
        hit = False
        for term in terms(keywords):
            word = term.encode()
            number = bisect_left(self._words, word)
            if number < len(self._words) and self._words[number] == word:
                hit = True
                start, end = self._starts[number], self._starts[number + 1]
                scores[self._documents[start:end]] += self._weights[start:end]
        if not hit:
            return ()
        matching = np.flatnonzero(scores > 0)
        if len(matching) > RESULTS_KEPT:
            # All that are as good as the last one kept: of equal ones the shop's order decides.
            least = np.partition(scores[matching], -RESULTS_KEPT)[-RESULTS_KEPT]
            matching = matching[scores[matching] >= least]
        best = matching[np.argsort(-scores[matching], kind="stable")][:RESULTS_KEPT]
        return tuple(self._stored.asins[number].decode() for number in best)


class Builder:
    """Writes a shop into a folder, product by product in the shop's order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._products, self._goals = _Writer(folder / "products.jsonl"), _Writer(folder / "goals.jsonl")
        self._asins: list[bytes] = []
        self._kinds: list[str] = []
        self._numbers: dict[str, int] = {}
        self._terms, self._documents, self._counts = array("I"), array("I"), array("H")
        self._lengths = array("I")

    def add(self, product: Product, goals: Sequence[Goal]) -> None:
        """A product, with the goals that ask for it."""
        self._products.write(asdict(product))
        words = terms(product.indexed_text())
        counts = Counter(words)
        self._terms.extend(self._numbers.setdefault(word, len(self._numbers)) for word in counts)
        self._documents.extend([len(self._asins)] * len(counts))
        self._counts.extend(min(count, 0xFFFF) for count in counts.values())
        self._lengths.append(len(words))
        self._asins.append(product.asin.encode())
        for goal in goals:
            self._goals.write(asdict(goal))
            self._kinds.append(product.category)

    @property
    def goals(self) -> list[str]:
        """The category of each goal so far."""
        return self._kinds

    def finish(self, chosen: Mapping[str, Sequence[int]], left_out: Mapping[str, str]) -> None:
        """Write the index, `chosen` goals by name, and what was left out."""
        self._products.close()
        self._goals.close()
        folder = self._folder
        asins = np.array(self._asins, dtype="S10")
        places = np.argsort(asins, kind="stable")
        np.save(folder / "asins.npy", asins)
        np.save(folder / "sorted_asins.npy", asins[places])
        np.save(folder / "places.npy", places)
        self._write_index()
        for number, numbers in enumerate(chosen.values()):
            np.save(folder / f"chosen{number}.npy", np.array(numbers, np.int64))
        (folder / _META).write_text(json.dumps({"chosen": list(chosen), "left_out": dict(left_out)}))

    def _write_index(self) -> None:
        """Lucene's BM25 weight of each word in each document, word by word in their order."""
        words = sorted(self._numbers, key=str.encode)
        rank = np.empty(len(words), np.uint32)
        rank[[self._numbers[word] for word in words]] = np.arange(len(words), dtype=np.uint32)
        listed = rank[np.frombuffer(self._terms, np.uint32)] if words else np.zeros(0, np.uint32)
        order = np.argsort(listed, kind="stable")
        frequencies = np.bincount(listed, minlength=len(words))
        documents = np.frombuffer(self._documents, np.uint32)[order] if words else np.zeros(0, np.uint32)
        counts = np.frombuffer(self._counts, np.uint16)[order].astype(np.float32) if words else np.zeros(0, np.float32)
        lengths = np.frombuffer(self._lengths, np.uint32).astype(np.float32)
        norms = (K1 * (1 - B + B * lengths / max(float(lengths.mean()), 1e-9))).astype(np.float32)
        rarity = np.log(1 + (len(lengths) - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
        weights = np.repeat(rarity, frequencies) * (counts / (counts + norms[documents]))
        np.save(self._folder / "starts.npy", np.concatenate([[0], np.cumsum(frequencies)]).astype(np.int64))
        np.save(self._folder / "documents.npy", documents)
        np.save(self._folder / "weights.npy", weights.astype(np.float32))
        encoded = [word.encode() for word in words]
        (self._folder / "words.bin").write_bytes(b"".join(encoded))
        np.save(self._folder / "words.npy", np.cumsum([len(word) for word in encoded], dtype=np.int64))


class _Writer:
    """Lines of JSON without ends, whose places are kept apart."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._ends, self._at = path, path.open("wb"), array("q"), 0

    def write(self, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=True).encode()
        self._at += self._file.write(text)
        self._ends.append(self._at)

    def close(self) -> None:
        self._file.close()
        np.save(self._path.with_suffix(".npy"), np.frombuffer(self._ends, np.int64) if self._ends else np.zeros(0, int))


class Shop:
    """A stored shop: its `catalogue`, and by name the `goals` of its lists."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / _META).read_text())
        self.catalogue = StoredCatalogue(folder)
        self.left_out: dict[str, str] = meta["left_out"]
        self.goals: dict[str, Lines[Goal]] = {
            name: Lines(folder / "goals.jsonl", _goal, np.load(folder / f"chosen{number}.npy", mmap_mode="r"))
            for number, name in enumerate(meta["chosen"])
        }


def stored_shop(folder: Path, build: Callable[[Path], None]) -> Shop:
    """The shop in a folder; where it is not there `build` writes it, once, however many processes ask at a time."""
    if not (folder / _META).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if not (folder / _META).is_file():
                temporary = folder.with_suffix(f".{uuid4().hex}")
                temporary.mkdir()
                try:
                    build(temporary)
                    shutil.rmtree(folder, ignore_errors=True)
                    temporary.rename(folder)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
    return Shop(folder)


def _product(row: dict[str, Any]) -> Product:
    tuples = {name: tuple(row[name]) for name in ("path", "features", "attributes", "reviews")}
    options = {name: tuple(values) for name, values in row["options"].items()}
    return Product(**{**row, **tuples, "options": options})


def _goal(row: dict[str, Any]) -> Goal:
    return Goal(**{**row, **{name: tuple(row[name]) for name in ("path", "attributes", "options")}})

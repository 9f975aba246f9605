"""Which of several equal engines answers a request, so that all have as much to do and few tokens are computed twice.

Engines keep the beginnings that they have read (prefix caching). A router remembers which engine was given what, and
sends a request where the least has to be computed before it is answered, by what waits there and by what of the request
itself is new there. Instructions that all requests share soon are everywhere, and an episode stays where it is unless
others have less to do. Routers of several processes know nothing of each other; each spreads its own requests evenly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

TOKENS = 32
"""Work is counted in blocks of so many tokens."""
CHARACTERS = 128
"""A block of text, which has about as many tokens."""

# What an engine did lately counts as well, or one that has read the instructions would get all episodes while little
# waits. It is remembered for about so many requests per engine, and weighs so much of what waits: with more, an engine
# that is slower than the others holds them up; with less, shares are uneven where few requests run at a time.
_MEMORY = 128
_RECENT = 0.2
_BLOCKS = 2**16
_NOBODY: frozenset[str] = frozenset()


def rendezvous(key: str, names: Sequence[str]) -> str:
    """The name that a key belongs to, the same in every process; a change of names moves only the keys of those that
    came or went.
    """
    return max(names, key=lambda name: blake2b(f"{key}|{name}".encode(), digest_size=8).digest())


class PrefixRouter:
    """Places requests on engines, which may come and go. All methods belong to one event loop at a time."""

    def __init__(self) -> None:
        self._engines: dict[str, _Engine] = {}
        # Who was given which prefix; the one used last is at the end.
        self._readers: OrderedDict[int, frozenset[str]] = OrderedDict()

    @contextmanager
    def request(self, read: Sequence[int] | str) -> Iterator[Request]:
        """One request to read token ids or a text; it is under way until the end of the block."""
        request = Request(self, _prefixes(read))
        try:
            yield request
        finally:
            request.end()

    def place(self, prefixes: Sequence[int], names: Sequence[str]) -> tuple[str, _Engine, float]:
        """Give a request to an engine: its name, its work, and the blocks that this adds."""
        self._meet(names)
        known = self._known(prefixes, names)

        def cost(name: str) -> tuple[float, int]:
            # Costs are equal at the start, where not all routers may begin with the same engine.
            return self._engines[name].busy - known[name], hash((name, *prefixes[-1:]))

        name = min(names, key=cost)
        self._remember(prefixes, name)
        engine, blocks = self._engines[name], len(prefixes) - known[name] + 1.0
        engine.waiting += blocks
        return name, engine, blocks

    def done(self, engine: _Engine, placed: float, generated: float) -> None:
        """What was `placed` on an engine waits no more; it has computed that and the blocks it `generated`."""
        for candidate in self._engines.values():
            candidate.recent *= 1 - 1 / (_MEMORY * len(self._engines))
        engine.waiting -= placed
        engine.recent += placed + generated

    def _meet(self, names: Sequence[str]) -> None:
        """Take up who serves; one that is new counts as busy as the others, or it would get all requests."""
        if self._engines.keys() == set(names):
            return
        stay = [self._engines[name] for name in names if name in self._engines]
        usual = sum(engine.recent for engine in stay) / len(stay) if stay else 0.0
        self._engines = {name: self._engines.get(name) or _Engine(recent=usual) for name in names}

    def _known(self, prefixes: Sequence[int], names: Sequence[str]) -> dict[str, int]:
        """How many of the prefixes each engine was given before."""
        known = dict.fromkeys(names, len(prefixes))
        readers = frozenset(names)
        for number, prefix in enumerate(prefixes):
            still = readers & self._readers.get(prefix, _NOBODY)
            if len(still) < len(readers):
                for name in readers - still:
                    known[name] = number
                readers = still
            if not readers:
                break
        return known

    def _remember(self, prefixes: Sequence[int], name: str) -> None:
        # The longest first, so that none is forgotten before those that it begins. Prefixes that were met together
        # share one set: most of the memory would be theirs.
        before, after = _NOBODY, frozenset([name])
        for prefix in reversed(prefixes):
            readers = self._readers.get(prefix, _NOBODY)
            if readers is not before:
                before, after = readers, readers if name in readers else readers | {name}
            self._readers[prefix] = after
            self._readers.move_to_end(prefix)
        while len(self._readers) > _BLOCKS:
            self._readers.popitem(last=False)


class Request:
    """A request, which is placed once more where an engine was lost."""

    def __init__(self, router: PrefixRouter, prefixes: Sequence[int]) -> None:
        self._router = router
        self._prefixes = prefixes
        self._placed: tuple[_Engine, float] | None = None
        self._generated = 0.0

    def place(self, names: Sequence[str]) -> str:
        """The engine that answers, of those that serve."""
        self.end()
        name, engine, blocks = self._router.place(self._prefixes, names)
        self._placed = engine, blocks
        return name

    def generated(self, tokens: int) -> None:
        """So many tokens were computed beside those that were read."""
        self._generated = tokens / TOKENS

    def end(self) -> None:
        """It is not under way any more."""
        if self._placed is not None:
            self._router.done(*self._placed, self._generated)
            self._placed = None


@dataclass(slots=True)
class _Engine:
    """In blocks: what an engine was given and has not answered, and what it did lately."""

    waiting: float = 0.0
    recent: float = 0.0

    @property
    def busy(self) -> float:
        return self.waiting + _RECENT * self.recent


def _prefixes(read: Sequence[int] | str) -> list[int]:
    """What stands for the beginning of one, two, ... blocks, in this process."""
    whole, size = (read, CHARACTERS) if isinstance(read, str) else (tuple(read), TOKENS)
    prefix, prefixes = 0, []
    for end in range(size, len(whole) + 1, size):
        prefix = hash((prefix, whole[end - size : end]))
        prefixes.append(prefix)
    return prefixes

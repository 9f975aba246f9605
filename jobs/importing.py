"""Stored episodes of others to trees: `agentrm import SOURCE... run=runs/mine`.

Several batches of files are read at once on Ray; one is read in this process. A run that was cut goes on with what is
missing, and the trees appear when they are whole.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agentrm import storage
from agentrm.config.schema import Config, Episodes
from agentrm.core.errors import UserError
from agentrm.episodes.episode import Problem
from agentrm.episodes.importing import SHOWN, batches, build, identity, parts, spool
from agentrm.episodes.reading import read
from agentrm.episodes.sources import File, found
from agentrm.run import RunDirectory
from jobs.runtime import cluster, progress

_PRINTED = 10
_SHORT = ("form", "outcome", "task", "scale", "environment", "strict")
_KEY = re.compile(r"[a-z_][a-z_.]*=")

Spread = Callable[[Callable[..., dict[str, Any]], Sequence[tuple[Any, ...]]], Iterator[dict[str, Any]]]


def told_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sources and the changes to the preset among some arguments; keys of `episodes` need no `episodes.`."""
    keys = [argument for argument in arguments if _KEY.match(argument)]
    overrides = [f"episodes.{key}" if key.partition("=")[0] in _SHORT else key for key in keys]
    return [argument for argument in arguments if not _KEY.match(argument)], overrides


def run(config: Config, sources: Sequence[str], check: bool = False) -> dict[str, Any]:
    """Make `trees/` of all episodes in the sources, unless it is there; returns the counts. `check` only reads them.

    Raises UserError without a source, for a run that holds other trees, and where no episode can be read.
    """
    if not sources:
        raise UserError("which episodes? Name files, directories, patterns or archives that hold some")
    files = found(sources)
    if check:
        return _check(files, config.episodes)
    directory = RunDirectory.open(config)
    same = identity(files)
    if directory.finished("trees"):
        counts = directory.metrics("import")
        if counts.get("identity") != same:
            raise UserError(f"{directory.at('trees')} holds trees of other sources: choose another run=...")
        print(f"{directory.at('trees')} holds these episodes already", file=sys.stderr)
        return counts
    started = time.monotonic()
    folder = directory.work("import")
    todo = batches(files, config.episodes)
    total: Counter[str] = Counter()
    shown: list[str] = []
    with _spreading(config, len(todo)) as spread:
        works = [(batch, config.episodes, folder) for batch in todo]
        _count("files", spread(spool, works), len(works), total, shown)
        if not total["episodes"]:
            raise UserError(f"no episode can be read: {shown[0] if shown else 'the files are empty'}")
        total["episodes"] = 0
        pieces = [(part, todo, folder) for part in parts(todo, folder)]
        _count("trees", spread(build, pieces), len(pieces), total, shown)
    counts = {
        **total,
        "seconds": round(time.monotonic() - started, 1),
        "identity": same,
        "sources": [storage.absolute(source) for source in sources],
        "shown": shown[:SHOWN],
    }
    directory.write_metrics("import", counts)
    storage.move(f"{folder}/trees", directory.at("trees"))
    storage.delete(folder)
    _tell(total, shown)
    print(f"{total['trees']} trees of {total['tasks']} tasks are in {directory.at('trees')}", file=sys.stderr)
    return counts


def _check(files: Sequence[File], settings: Episodes) -> dict[str, Any]:
    """Read all and keep nothing: counts by data source, and the problems."""
    total: Counter[str] = Counter()
    sources: Counter[tuple[str, str]] = Counter()
    shown: list[str] = []
    ids, tasks = set[int](), set[int]()
    for episode in read(files, settings):
        if isinstance(episode, Problem):
            total["problems"] += 1
            if len(shown) < SHOWN:
                shown.append(str(episode))
            continue
        total["episodes"] += 1
        total["with tools"] += bool(episode.tools)
        sources[episode.source, episode.form] += 1
        tasks.add(hash((episode.source, episode.task)))
        if episode.id:
            total["duplicates"] += (identity := hash((episode.source, episode.task, episode.id))) in ids
            ids.add(identity)
    for (source, form), count in sorted(sources.items()):
        print(f"{source}: {count} episodes of {form}")
    print(f"{total['episodes']} episodes of {len(tasks)} tasks in {len(files)} files")
    if total["duplicates"]:
        print(f"{total['duplicates']} have an id that was there before: they would be left out", file=sys.stderr)
    _tell(total, shown)
    return {**total, "tasks": len(tasks), "shown": shown}


def _tell(total: Counter[str], shown: Sequence[str]) -> None:
    for line in shown[:_PRINTED]:
        print(f"left out: {line}", file=sys.stderr)
    if total["problems"]:
        print(f"{total['problems']} records were left out", file=sys.stderr)


def _count(name: str, results: Iterator[dict[str, Any]], works: int, total: Counter[str], shown: list[str]) -> None:
    """Sum the counts of a pass as its pieces are done."""
    with progress(name, works) as bar:
        for counts in results:
            shown += counts.pop("shown")
            total.update(counts)
            bar.advance(episodes=total["episodes"])


@contextmanager
def _spreading(config: Config, batches: int) -> Iterator[Spread]:
    """How pieces of work are done: one batch is read here before a cluster would have started."""
    if batches == 1:
        yield lambda function, works: (function(*work) for work in works)
        return
    with cluster(config):
        from actors.importing import spread

        yield spread

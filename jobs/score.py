"""Values of stored episodes by a reward model: `agentrm score SOURCE... --model RUN_OR_DIRECTORY --to FILE`.

One replica scores in this process, several on Ray, and a service that runs somewhere over HTTP. What the file holds is
not scored again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.table import Table

from agentrm import storage
from agentrm.config.loading import changed, load
from agentrm.core.errors import InputRefused, UserError
from agentrm.core.messages import AGENT, Conversation
from agentrm.episodes.episode import Episode, Problem
from agentrm.episodes.reading import read
from agentrm.episodes.sources import File, found
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards.best_of_n import Row, best_of_n
from agentrm.evaluation.rewards.table import ValueTable, key, rows
from agentrm.evaluation.rewards.values import EngineScoring, Scoring, Values, step_values
from agentrm.models.scorers import open_scorer
from agentrm.run import reward_model
from agentrm.service.client import AsyncScoringClient, RequestRefused
from jobs.runtime import cluster
from jobs.terminal.console import console
from jobs.terminal.progress import Bar, progress

_SHOWN = 10
_PART = 512
_PART_S = 60.0
_READ = 64

T = TypeVar("T")


class ServiceScoring:
    """A `Scoring` over HTTP."""

    def __init__(self, client: AsyncScoringClient) -> None:
        self._client = client

    async def whole(self, conversation: Conversation) -> float:
        """See `Scoring`."""
        try:
            (value,) = await self._client.score([conversation])
        except RequestRefused as error:
            raise InputRefused(str(error)) from error
        return value

    async def turns(self, conversation: Conversation) -> list[float]:
        """See `Scoring`."""
        if conversation.messages[-1]["role"] == AGENT:
            steps, last = await asyncio.gather(self._steps(conversation), self.whole(conversation))
            return [*steps, last]
        return await self._steps(conversation)

    async def _steps(self, conversation: Conversation) -> list[float]:
        try:
            (values,) = await self._client.score_steps([conversation])
        except RequestRefused as error:
            raise InputRefused(str(error)) from error
        return values


class Source:
    """Where values come from: the reward model of a run or a directory, or a service at an address, with what is called
    `name` in the file of values. Raises UserError unless one of them is named.
    """

    def __init__(self, model: storage.Location, url: str, api_key: str, preset: str, overrides: Sequence[str]) -> None:
        if bool(model) == bool(url):
            raise UserError("which reward model? Name a run or a directory with --model, or a service with --url")
        self._model, run = reward_model(model) if model else ("", None)
        self.config = load(preset, overrides) if run is None else changed(run.config, overrides)
        self._url, self._api_key = url, api_key
        self.name = url.rstrip("/") or storage.absolute(model)

    @property
    def _replicas(self) -> int:
        engine = self.config.reward_engine
        return max(engine.replicas, engine.max_replicas or 1)

    @property
    def lanes(self) -> int:
        """How many conversations are under way at once, so that no engine waits for more."""
        return 2 * self.config.reward_engine.max_num_seqs * self._replicas

    def run(self, work: Callable[[Scoring], Coroutine[Any, Any, T]]) -> T:
        """What `work` returns, which gets the scoring. Raises ModelError for a directory that holds no reward model."""
        config = self.config
        if self._url:
            return asyncio.run(self._over_http(work))
        if self._replicas > 1:
            from actors.serving import deployed

            with cluster(config), deployed(config, self._model, http=False) as replicas:
                return asyncio.run(work(EngineScoring(replicas)))
        opened = open_scorer(storage.fetch(self._model), config.reward_engine, config.model.context, config.serve.label)
        with closing(opened) as scorer:
            return asyncio.run(work(EngineScoring(scorer)))

    async def _over_http(self, work: Callable[[Scoring], Coroutine[Any, Any, T]]) -> T:
        timeout = self.config.serve.deadline_s + 10
        async with AsyncScoringClient(self._url, self._api_key, timeout_s=timeout) as client:
            return await work(ServiceScoring(client))


def run(sources: Sequence[str], source: Source, to: Path) -> list[Row]:
    """Write the values of all episodes in `sources`, print what the best of N would have been, and return that. Raises
    UserError without a source, and where no episode can be read.
    """
    if not sources:
        raise UserError("which episodes? Name files, directories, patterns or archives that hold some")
    files = found(sources)
    table = ValueTable(to, source.name)
    counts, seen, read_files = _scored(files, source, table)
    if not counts["episodes"]:
        raise UserError(f"no episode can be read in {', '.join(sources)}")
    table.commit(read_files, seen)
    cut = f", {counts['cut']} of them as far as the model can read" if counts["cut"] else ""
    print(f"{counts['scored']} episodes were scored{cut}; {table.path} holds {len(seen)} of these", file=sys.stderr)
    compared = best_of_n(table.attempts(), Settings.of(source.config))
    if compared:
        _show(compared)
    return compared


def _scored(files: Sequence[File], source: Source, table: ValueTable) -> tuple[Counter[str], set[str], set[str]]:
    """Score what the table lacks; returns counts, and the keys and files of what has values."""
    done = table.done()
    counts: Counter[str] = Counter()
    seen, names = set[str](), set[str]()

    def missing(bar: Bar) -> Iterator[Episode]:
        for file in files:
            for episode in read([file], source.config.episodes, required=False):
                if isinstance(episode, Problem):
                    _tell(counts, str(episode))
                    continue
                counts["episodes"] += 1
                names.add(episode.file)
                own = key(episode)
                fresh = own not in done and own not in seen
                seen.add(own)
                if fresh:
                    yield episode
            bar.advance(episodes=counts["episodes"])

    async def score(scoring: Scoring) -> None:
        writer = _Parts(table, source.name)
        try:
            async for episode, values in _in_order(first, episodes, scoring, source.lanes):
                if all(value is None for value in values.steps):
                    seen.discard(key(episode))
                    _tell(counts, str(Problem(episode.file, episode.line, values.refused)))
                    continue
                counts["scored"] += 1
                counts["cut"] += bool(values.refused)
                writer.add(episode, values)
        finally:
            writer.flush()

    with progress("files", len(files)) as bar:
        episodes = missing(bar)
        # An engine takes half a minute to start: not for nothing.
        if first := list(islice(episodes, _READ)):
            source.run(score)
    if counts["problems"] > _SHOWN:
        print(f"{counts['problems']} records were left out", file=sys.stderr)
    return counts, seen, names


def _tell(counts: Counter[str], problem: str) -> None:
    counts["problems"] += 1
    if counts["problems"] <= _SHOWN:
        print(f"left out: {problem}", file=sys.stderr)


async def _in_order(
    first: Sequence[Episode], rest: Iterator[Episode], scoring: Scoring, lanes: int
) -> AsyncIterator[tuple[Episode, Values]]:
    """Episodes with their values, in their order, `lanes` of them under way at a time."""
    waiting: deque[tuple[Episode, asyncio.Task[Values]]] = deque()
    some: Sequence[Episode] = first
    try:
        while some or waiting:
            for episode in some:
                conversation = Conversation(episode.messages, episode.tools)
                waiting.append((episode, asyncio.create_task(step_values(scoring, conversation))))
            while waiting and (len(waiting) >= lanes or not some):
                episode, task = waiting.popleft()
                yield episode, await task
            some = await asyncio.to_thread(lambda: list(islice(rest, _READ)))
    finally:
        for _, task in waiting:
            task.cancel()


class _Parts:
    """Rows of scored episodes on their way into the table: a command that is stopped loses a minute of them at most."""

    def __init__(self, table: ValueTable, scored_by: str) -> None:
        self._table, self._scored_by = table, scored_by
        self._rows: list[dict[str, object]] = []
        self._episodes, self._since = 0, time.monotonic()

    def add(self, episode: Episode, values: Values) -> None:
        """Keep an episode's values."""
        self._rows += rows(episode, values, self._scored_by)
        self._episodes += 1
        if self._episodes >= _PART or time.monotonic() - self._since > _PART_S:
            self.flush()

    def flush(self) -> None:
        """Write what is kept."""
        if self._rows:
            self._table.add(self._rows)
        self._rows, self._episodes, self._since = [], 0, time.monotonic()


def _show(compared: Sequence[Row]) -> None:
    names = list(compared[0].outcomes)
    table = Table("N", "tasks", *names, box=box.SIMPLE_HEAD, title="Mean outcome of the best of N")
    for row in compared:
        cells = (f"{outcome.value:.3f} [{outcome.low:.3f}, {outcome.high:.3f}]" for outcome in row.outcomes.values())
        table.add_row(str(row.n), str(row.tasks), *cells)
    console().print(table)

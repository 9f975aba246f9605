"""Demonstrations: the environments' oracles play the tasks of `tasks.demonstrations`; successes become a dataset, as do
the trajectories in files and the successes in trees that it names.

    python -m jobs.demonstrations --preset quickstart

What was left out is counted by reason for every kind, in `metrics/demonstrations.json` and on the screen.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

from actors.environments import RemoteExpert, RemoteGrader, RemoteSessions, start_environments
from agentrm.config.schema import Config
from agentrm.config.tasks import own_demonstrations, played_demonstrations, recorded_demonstrations, tasks
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.data.demonstrations import Collection, collect, write
from agentrm.data.successes import successes
from agentrm.episodes.demonstrations import recorded
from agentrm.run import RunDirectory
from agentrm.search.episode import Opening
from jobs.runtime import cluster, main, progress

# Environments keep what they have prepared for this many tasks at least, so that no task is prepared twice.
_CONCURRENCY = 16


def run(config: Config) -> dict[str, Any]:
    """Make `demonstrations/`, unless it is there; returns the counts by "environment.kind".

    Raises UserError when not one task could be demonstrated.
    """
    directory = RunDirectory.open(config)
    if directory.finished("demonstrations"):
        return directory.metrics("demonstrations")
    directory.record_data()
    todo = tasks(played_demonstrations(config.tasks), config.tasks.seed)
    opening = Opening.of(config.model)
    files = recorded(recorded_demonstrations(config.tasks), opening, config.model.action_format)
    own = successes(own_demonstrations(config.tasks))
    collection = _played(config, todo, opening) if todo else Collection()
    played = len(collection.demonstrations)
    for source in (files, own):
        collection.demonstrations += source.demonstrations
        for kind, counted in source.counts.items():
            collection.counts.setdefault(kind, Counter()).update(counted)
    for kind, counts in collection.counts.items():
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if reason != "kept")
        if left_out:
            print(f"{kind}: {counts['kept']} demonstrations, left out: {left_out}", file=sys.stderr)
    if not collection.demonstrations:
        raise UserError("no task could be demonstrated: give tasks.demonstrations environments with an oracle")
    with directory.writing("demonstrations") as output:
        write(collection.demonstrations, output / "demonstrations.parquet")
        directory.write_metrics("demonstrations", collection.counts)
    kept = f"{len(collection.demonstrations)} demonstrations"
    if todo:
        kept += f", {played} of {len(todo)} tasks"
    print(f"{kept}, are in {directory.path('demonstrations')}", file=sys.stderr)
    return directory.metrics("demonstrations")


def _played(config: Config, todo: list[Task], opening: Opening) -> Collection:
    """What the oracles show."""
    with (
        cluster(config),
        start_environments(config) as hosts,
        progress("demonstrations", len(todo), lanes=_CONCURRENCY) as bar,
    ):
        return asyncio.run(
            collect(
                todo,
                RemoteExpert(hosts),
                RemoteSessions(hosts),
                RemoteGrader(hosts),
                opening,
                config.model.action_format,
                _CONCURRENCY,
                bar.advance,
            )
        )


if __name__ == "__main__":
    main(run)

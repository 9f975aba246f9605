"""The reward model behind a gateway learns from what the gateway has kept.

    python -m jobs.improve --preset quickstart run=runs/mine gateway.record=recordings

A round takes the recorded conversations that have an outcome, imports them, trains on them and on the run's own trees
as the run's reward model was trained, and measures the result against the present one on what neither has learned from.
If it is not worse it serves from then on: a running `agentrm gateway` or `agentrm serve` takes it up by itself. A round
that was cut goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from actors.serving import deployed
from agentrm import storage
from agentrm.config.schema import Config, End, Episodes
from agentrm.core.errors import UserError
from agentrm.core.tree import Tree
from agentrm.data.states import held_out
from agentrm.data.trees import TreeStore
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.quality import leads
from agentrm.run import RunDirectory
from jobs import importing, train
from jobs.quality import values_of
from jobs.runtime import cluster, main

_ENVIRONMENT = "gateway"
_RECORDED = "recorded"
_SHOWN = "brier"

Leads = Mapping[str, Mapping[str, Mapping[str, float | int] | None]]
"""By the end of a turn and the measure, as `agentrm.evaluation.quality.leads` has them."""


def run(config: Config) -> dict[str, Any]:
    """Go on with the round that was begun, or begin one; returns its metrics, those of the last one where nothing new
    has an outcome. Raises UserError without recordings, without one that has an outcome, and without a reward model.
    """
    if not config.gateway.record:
        raise UserError("the key gateway.record is empty: name the directory where the gateway keeps conversations")
    directory = RunDirectory.open(config)
    present = directory.in_service()
    rounds = directory.improvements()
    last = rounds[-1].metrics("improve") if rounds else {}
    number = int(storage.name(rounds[-1].location)) + bool(last) if rounds else 1
    if last and last["recorded"] == _digest(_ended(config.gateway.record)):
        print(f"nothing new has an outcome since round {number - 1}: {last['told']}", file=sys.stderr)
        return last
    return _round(directory, number, present)


def _round(directory: RunDirectory, number: int, present: str) -> dict[str, Any]:
    """Round `number`, from where it stopped, against the reward model at `present`."""
    config = _config(directory.config, directory.improvement(number).location)
    own = RunDirectory.open(config)
    own.borrow(directory, ["demonstrations", "policy"])
    recorded = _record(own, config.gateway.record)
    imports = replace(config, run=own.at("import"))
    counts = importing.run(imports, [own.at(_RECORDED)])
    if not own.finished("trees"):
        with own.writing("trees") as output:
            storage.copy(directory.require("trees", "trees"), output / "run")
            storage.copy(RunDirectory.existing(imports.run).at("trees"), output / _ENVIRONMENT)
    trees = [tree for tree in TreeStore(own.at("trees")).trees() if held_out(tree.task, config.train.held_out_trees)]
    ends = config.train.labels.at
    with cluster(config):
        train.run(config)
        # One service after the other: where there is room for one there may be none for two.
        before, after = (
            _values(replace(config, run=f"{directory.location}-round-{number}"), model, trees)
            for model in (present, own.at("reward_model"))
        )
    by_end = {
        end.value: leads(trees, new, old, Settings.of(config))
        for end, new, old in zip(ends, after, before, strict=True)
    }
    worse = why_worse(by_end, ends)
    told = f"the reward model of round {number} " + (f"is not taken: {worse}" if worse else "serves from now on")
    metrics = {
        "improved": not worse,
        "told": told,
        "against": present,
        "leads": by_end,
        "episodes": counts["episodes"],
        "held_out": {
            name: sum((tree.task.environment == _ENVIRONMENT) is new for tree in trees)
            for name, new in (("recorded", True), ("own", False))
        },
        "recorded": recorded,
    }
    own.write_metrics("improve", metrics)
    _show(by_end, told)
    return metrics


def _values(config: Config, model: str, trees: Sequence[Tree]) -> list[list[dict[int, float]]]:
    """What the reward model at a location says of trees, at each of `train.labels.at`."""
    with deployed(config, model, http=False) as scorers:
        return asyncio.run(values_of(trees, scorers, config.train.labels.at))


def why_worse(leads: Leads, ends: Sequence[End]) -> str:
    """Why a reward model is not to replace another one, "" where it may. It must not be worse in the mean error of its
    probabilities where the gateway reads values, nor in any measure by the whole of its interval. Raises UserError
    where there is nothing to compare.
    """
    decisive = (End.action if End.action in ends else End.state).value
    lead = leads[decisive][_SHOWN]
    if lead is None:
        raise UserError(
            "too few held-out trees to compare reward models on: go on recording, or raise train.held_out_trees"
        )
    for end, measures in leads.items():
        for name, gap in measures.items():
            if gap is not None and gap["high"] < 0:
                return f"{name} of {end}s is worse by {-gap['value']:.3f} [{-gap['high']:.3f}, {-gap['low']:.3f}]"
    return f"{_SHOWN} of {decisive}s is worse by {-lead['value']:.3f}" if lead["value"] < 0 else ""


def _config(config: Config, location: str) -> Config:
    """The configuration of a round: the run's, which learns from recorded episodes too."""
    labels = config.train.labels
    if labels.environments:
        weights = [*labels.weights, 1.0] if labels.weights else []
        labels = replace(labels, environments=[*labels.environments, _ENVIRONMENT], weights=weights)
    episodes = Episodes(form="openai", environment=_ENVIRONMENT)
    return replace(config, run=location, reuse=None, episodes=episodes, train=replace(config.train, labels=labels))


def _ended(location: str) -> Iterator[str]:
    """The rows of recorded conversations that have an outcome, in the order of their sessions. Raises UserError."""
    location = storage.absolute(location)
    with storage.reaching(location):
        files = sorted(name for name in storage.names(location) if name.endswith(".jsonl"))
    for name in files:
        for line in (storage.read_text(f"{location}/{name}") or "").splitlines():
            try:
                row = json.loads(line)
                ended = row["outcome"] is not None
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{location}/{name} was not written by the gateway: take it away") from error
            if ended:
                yield f"{line}\n"


def _digest(rows: Iterable[str]) -> str:
    """What tells rows from others."""
    digest = blake2b(digest_size=16)
    for row in rows:
        digest.update(row.encode())
    return digest.hexdigest()


def _record(own: RunDirectory, location: str) -> str:
    """Keep what a round learns from, as the gateway goes on writing; returns what tells it from what other rounds had.
    Raises UserError for nothing.
    """
    if not own.finished(_RECORDED):
        with own.writing(_RECORDED) as output, (output / "episodes.jsonl").open("w") as file:
            empty = True
            for row in _ended(location):
                file.write(row)
                empty = False
            if empty:
                raise UserError(f"no conversation in {location} has an outcome: tell them with POST /v1/outcomes")
    text = storage.read_text(f"{own.at(_RECORDED)}/episodes.jsonl") or ""
    return _digest(text.splitlines(keepends=True))


def _show(leads: Leads, told: str) -> None:
    for end, measures in leads.items():
        for name, lead in measures.items():
            if lead is not None:
                interval = f"{lead['value']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]"
                print(f"{end}s, {name}: {interval} on {lead['trees']} held-out trees")
    print(told)


if __name__ == "__main__":
    main(run)

"""Behaviour cloning: the environments' oracles play, and the base model learns their turns; the result is the policy.

    python -m jobs.clone --preset quickstart clone.epochs=1

A fit that was cut goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from agentrm import storage
from agentrm.config.schema import Config, is_endpoint
from agentrm.core.errors import UserError
from agentrm.core.messages import text_of
from agentrm.data.demonstrations import Demonstration, agent_turns, read
from agentrm.models import openai_policy
from agentrm.models.initial import prepare
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from jobs import demonstrations
from jobs.fitting import fit_with_progress, starting_model, store_model
from jobs.runtime import cluster, main


def run(config: Config) -> dict[str, Any]:
    """Make `demonstrations/` and `policy/`, unless they are there; returns the metrics. A policy behind an endpoint is
    only written down; with `clone.epochs=0` the base model is the policy. Raises UserError for one from scratch then.
    """
    directory = RunDirectory.open(config)
    if directory.finished("policy"):
        return directory.metrics("clone")
    if is_endpoint(config.model.source):
        with directory.writing("policy") as output:
            openai_policy.describe(output, config.model.source, config.model.name)
        return {}
    if not config.clone.epochs:
        if config.model.source == "scratch":
            raise UserError(
                "clone.epochs=0 takes the base model as it is, and model.source=scratch has learned nothing"
            )
        with directory.writing("policy") as output:
            prepare(config.model, (), config.seed, output)
            Renderer.from_pretrained(output, config.model.context).check_policy()
        return {}
    started = time.monotonic()
    with cluster(config):
        counts = demonstrations.run(config)
        experts = read(directory.path("demonstrations"))
        work = directory.work("clone")
        base = starting_model(work, lambda target: prepare(config.model, _texts(experts), config.seed, target))
        renderer = Renderer.from_pretrained(storage.fetch(base), config.model.context)
        renderer.check_policy()
        sequences, overflows = agent_turns(
            (expert.conversation for expert in experts), renderer, config.clone.observation_share, config.seed
        )
        trained = fit_with_progress("policy", base, sequences, None, config, work, config.seed)
    with directory.writing("policy") as output:
        metrics = store_model(trained, work, output) | {
            "demonstrations": counts,
            "conversations": len(sequences),
            "over_context": overflows,
            "tokens_per_epoch": len(sequences.ids),
            "learned_tokens_per_epoch": len(sequences.labels),
            "seconds": round(time.monotonic() - started, 1),
        }
        directory.write_metrics("clone", metrics)
    storage.delete(work)
    return metrics


def _texts(experts: list[Demonstration]) -> Iterator[str]:
    return (text_of(message) for expert in experts for message in expert.conversation.messages)


if __name__ == "__main__":
    main(run)

"""Training curves in Weights & Biases and MLflow; both find their server and its key by variables of their own.

A fit that goes on after a crash goes on with its run there as well, and repeats no step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from agentrm.config.schema import TrackerKind

_PROJECT = "agentrm"
_TAG = "agentrm.fit"


class Tracker(Protocol):
    """One fit's run."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        ...

    def close(self) -> None:
        """The fit has ended."""
        ...


def open_tracker(kind: TrackerKind, fit: str, name: str) -> Tracker:
    """The run of a fit whose identity is `fit`, begun under a `name` or continued."""
    return _Wandb(fit, name) if kind is TrackerKind.wandb else _Mlflow(fit, name)


class _Wandb:
    def __init__(self, fit: str, name: str) -> None:
        import wandb

        self._run = wandb.init(project=_PROJECT, name=name, id=fit, resume="allow")

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, fit: str, name: str) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        project = self._client.get_experiment_by_name(_PROJECT)
        place = project.experiment_id if project else self._client.create_experiment(_PROJECT)
        runs = self._client.search_runs([place], f"tags.`{_TAG}` = '{fit}'")
        run = runs[0] if runs else self._client.create_run(place, tags={_TAG: fit}, run_name=name)
        self._id = run.info.run_id
        self._last = max((point.step for point in self._client.get_metric_history(self._id, "loss")), default=-1)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        if step > self._last:
            now = int(1000 * time.time())
            # A server that is away for a while must not end a fit.
            with suppress(MlflowException):
                points = [Metric(name, value, now, step) for name, value in scalars.items()]
                self._client.log_batch(self._id, metrics=points)
                self._last = step

    def close(self) -> None:
        self._client.set_terminated(self._id)

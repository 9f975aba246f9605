"""What actors count for Prometheus, through Ray's metrics agent on every node (`ray_agentrm_…`).

`grafana.json` beside this file is a dashboard of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

_COUNTED = {
    "trees": "Search trees committed.",
    "nodes": "Nodes of committed trees.",
    "rollouts": "Rollouts that were backed up.",
    "tokens": "Tokens sampled by the policy.",
    "steps": "Environment steps of committed trees.",
    "malformed": "Turns of the policy that hold no action.",
    "cleaned": "Turns that were cut, or whose action had decorations.",
    "environment_errors": "Simulations that an environment broke off.",
    "engine_errors": "Simulations that a model broke off.",
}


class TreeMetrics:
    """Counters of one builder, by environment."""

    def __init__(self) -> None:
        self._counters = {
            name: Counter(f"agentrm_{name}", description=text, tag_keys=("environment",))
            for name, text in _COUNTED.items()
        }

    def count(self, environment: str, counts: Mapping[str, float]) -> None:
        """Add what one tree counted; names that are not exported are left out."""
        for name, counter in self._counters.items():
            if amount := counts.get(name, 0):
                counter.inc(amount, tags={"environment": environment})


class FleetMetrics:
    """How many members of a fleet serve, and their requests under way; `fleet` names the actor class."""

    def __init__(self) -> None:
        self._members = Gauge("agentrm_members", description="Actors that serve.", tag_keys=("fleet",))
        self._load = Gauge("agentrm_load", description="Requests under way or waiting.", tag_keys=("fleet",))

    def record(self, fleet: str, members: int, load: float) -> None:
        """What was seen at the last look."""
        self._members.set(members, tags={"fleet": fleet})
        self._load.set(load, tags={"fleet": fleet})

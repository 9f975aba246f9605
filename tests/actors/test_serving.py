"""Names of services, which Ray Serve makes actors, log files, metrics and HAProxy's backends of."""

from __future__ import annotations

import re

from ray.serve._private.common import DeploymentID, ReplicaID

from actors.serving import application, model_name
from agentrm.config.schema import Config
from tests.names import NASTY


def test_the_model_is_called_as_its_run_is() -> None:
    for name in NASTY:
        assert model_name(Config(run=f"runs/{name}/")) == f"agentrm-{name}"
    assert model_name(Config(run="s3://bucket/runs/first%20%232")) == "agentrm-first #2"
    assert application(Config(run="runs/quickstart")) == "agentrm-quickstart"


def test_every_run_has_a_service_of_its_own_that_ray_serve_can_name() -> None:
    names = {application(Config(run=f"runs/{name}")) for name in NASTY}
    assert len(names) == len(NASTY)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name)
        replica = ReplicaID("one", DeploymentID("ScoringReplica", name))
        assert ReplicaID.from_full_id_str(replica.to_full_id_str()) == replica

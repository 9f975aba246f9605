"""Bad and good input made from the gateway's own OpenAPI description: every answer is one that it announces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from agentrm.config.schema import Gateway
from agentrm.service.gateway.api import create_app
from tests.agentrm.service.gateway.upstream import Endpoint, completion, length
from tests.servers import serving

# What a schema cannot say is told by these: too many candidates, names of sessions, sessions that are not there.
ACCEPTED = ["2xx", "404", "422"]
CONFIG = SchemathesisConfig.from_dict(
    {"seed": 1, "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}}}
)
SHAPE = create_app(length, Gateway(upstream="http://127.0.0.1:1/v1", api_key="k")).openapi()
schema = schemathesis.openapi.from_dict(SHAPE, config=CONFIG)


@pytest.fixture(scope="module")
def address(running: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running.respond = lambda body: completion(*["look"] * body.get("n", 1))
    given = Gateway(upstream=running.url, api_key="k", record=str(tmp_path_factory.mktemp("kept")))
    with serving(create_app(length, given)) as url:
        yield url


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_announced(case: schemathesis.Case, address: str) -> None:
    case.call_and_validate(base_url=address, headers={"Authorization": "Bearer k"})

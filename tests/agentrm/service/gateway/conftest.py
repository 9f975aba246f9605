"""One endpoint for all tests of the gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agentrm.service.gateway.upstream import Endpoint
from tests.servers import serving


@pytest.fixture(scope="package")
def running() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    with serving(endpoint.app) as address:
        endpoint.url = f"{address}/v1"
        yield endpoint


@pytest.fixture
def endpoint(running: Endpoint) -> Endpoint:
    running.requests.clear()
    running.keys.clear()
    return running

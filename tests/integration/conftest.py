"""One local cluster for all tests that can share it: its start and end take seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentrm.config.schema import Cluster, Config
from jobs.runtime import cluster
from tests.servers import s3


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """A bucket that the cluster's workers reach."""
    with s3() as bucket:
        yield bucket


@pytest.fixture(scope="session", autouse=True)
def ray_cluster(bucket: str) -> Iterator[None]:
    """What jobs of this process run on: `jobs.runtime.cluster` takes the cluster that there is."""
    with cluster(Config(cluster=Cluster(cpus=10, object_store_gib=0.3))):
        yield

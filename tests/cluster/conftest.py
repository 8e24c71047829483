"""Clusters of several Ray nodes on this machine."""

from collections.abc import Iterator

import pytest

from tests.support.ray_cluster import DETECTORS, Cluster, cluster, steady_config


@pytest.fixture(scope="session")
def steady() -> Iterator[Cluster]:
    """Two detectors, and a node to spare."""
    with cluster() as ray:
        ray.start_head()
        for _ in range(DETECTORS + 1):
            ray.add_node()
        ray.wait()
        ray.deploy(steady_config())
        yield ray

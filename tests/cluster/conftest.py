"""Clusters of several Ray nodes on this machine."""

from collections.abc import Iterator

import pytest

from tests.cluster.nodes import Cluster, cluster, production_config

DETECTORS = 2


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


def steady_config(**changes: object) -> dict[str, object]:
    """Of `steady`."""
    fixed = {"min_replicas": DETECTORS, "max_replicas": DETECTORS}
    return production_config(detector=fixed, **changes)  # type: ignore[arg-type]

"""The environment of the unit tests."""

from __future__ import annotations

import pytest

from tests.support.ray_environment import RAY_ENV


@pytest.fixture(autouse=True)
def _without_ray_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset Ray's variables, which `make test` exports and importing benchmarks sets.

    With RAY_SERVE_ENABLE_HA_PROXY the preflight checks HAProxy's fixed ports, and a Ray that other
    tests started on this machine listens there.
    """
    for name in RAY_ENV:
        monkeypatch.delenv(name, raising=False)

"""Ray's environment variables, for tests that start a Ray beside others.

This module does not import Ray.
"""

from __future__ import annotations

from pathlib import Path

from prelabel.settings.ray_environment import ray_variables
from tests.support.processes import free_port

RAY_ENV = ray_variables()
_PORTS = ("FALLBACK_PROXY_HTTP", "HAPROXY_METRICS", "HAPROXY_STATS")


def beside_others(folder: Path) -> dict[str, str]:
    """Return variables for files and ports that Rays on one machine would share otherwise."""
    proxy = folder / "haproxy"
    return {
        "RAY_TMPDIR": str(folder),
        **{f"RAY_SERVE_{name}_PORT": str(free_port()) for name in _PORTS},
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{proxy}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{proxy}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{proxy}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{proxy}/server-state",
    }

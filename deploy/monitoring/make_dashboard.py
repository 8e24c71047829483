"""Write dashboard.json, the dashboard that Grafana imports, from the list of panels below.

python deploy/monitoring/make_dashboard.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

_TARGET = Path(__file__).with_name("dashboard.json")
_RATE = "[$__rate_interval]"
_LOOKUPS = "ray_prelabel_cache_lookups_total"


def _quantiles(histogram: str, by: str, *quantiles: float) -> list[tuple[str, str]]:
    return [
        (
            f"histogram_quantile({q}, sum by (le, {by}) (rate({histogram}_bucket{_RATE})))",
            f"{{{{{by}}}}} p{q * 100:.0f}",
        )
        for q in quantiles
    ]


def _ratio(above: str, below: str, by: str = "") -> str:
    return f"sum {by}(rate({above}{_RATE})) / sum {by}(rate({below}{_RATE}))"


_PER_SECOND = "suffix:/s"  # Grafana's own units of rates name requests or operations
_ALERTS = "Alerts"
_NO_GPU = "No GPU"
_MOST = {"percent": 100, "percentunit": 1}

# Row -> its panels: title, Grafana unit, and queries with their legends.
PANELS: dict[str, list[tuple[str, str, list[tuple[str, str]]]]] = {
    _ALERTS: [
        (
            "Pending and firing alerts",
            "none",
            [
                (
                    'max by (alertname, alertstate) (ALERTS{alertname=~"Prelabel.+"})',
                    "{{alertname}} {{alertstate}}",
                )
            ],
        ),
    ],
    "Traffic and errors": [
        (
            "Tasks per second",
            _PER_SECOND,
            [
                (f"sum(rate(ray_prelabel_tasks_total{_RATE}))", "answered"),
                (f"sum(rate(ray_prelabel_tasks_failed_total{_RATE}))", "failed"),
                (f"sum(rate(ray_prelabel_playground_requests_total{_RATE}))", "playground"),
            ],
        ),
        (
            "Request duration",
            "s",
            _quantiles("ray_prelabel_request_seconds", "kind", 0.5, 0.95),
        ),
        (
            "Errors per second",
            _PER_SECOND,
            [(f"sum by (error_type) (rate(ray_prelabel_errors_total{_RATE}))", "{{error_type}}")],
        ),
        (
            "Boxes per task",
            "none",
            [
                (
                    _ratio("ray_prelabel_regions_total", "ray_prelabel_tasks_total"),
                    "boxes",
                )
            ],
        ),
    ],
    "Time by stage": [
        ("Stage duration, p95", "s", _quantiles("ray_prelabel_stage_seconds", "stage", 0.95)),
        (
            "Pictures per batch",
            "none",
            [
                (
                    _ratio("ray_prelabel_batch_size_sum", "ray_prelabel_batch_size_count"),
                    "mean",
                )
            ],
        ),
        (
            "Cache hit ratio",
            "percentunit",
            [
                (
                    _ratio(f'{_LOOKUPS}{{outcome="hit"}}', _LOOKUPS, "by (cache) "),
                    "{{cache}}",
                )
            ],
        ),
    ],
    "Load and capacity": [
        (
            "Tasks in progress, queued pictures",
            "none",
            [
                ("sum(ray_prelabel_tasks_in_progress)", "tasks"),
                ("sum(ray_prelabel_queue_depth)", "pictures"),
            ],
        ),
        (
            "Healthy replicas",
            "none",
            [("sum by (deployment) (ray_serve_deployment_replica_healthy)", "{{deployment}}")],
        ),
        (
            "CPU and memory of the nodes",
            "percent",
            [
                ("ray_node_cpu_utilization", "CPU {{ip}}"),
                ("100 * ray_node_mem_used / ray_node_mem_total", "memory {{ip}}"),
            ],
        ),
    ],
    "GPUs": [
        (
            "GPU utilisation",
            "percent",
            [("ray_node_gpus_utilization", "{{ip}} {{GpuIndex}}")],
        ),
        (
            "GPU memory",
            "decmbytes",
            [("ray_node_gram_used", "{{ip}} {{GpuIndex}}")],
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard in the JSON model of Grafana 10 and newer."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, content in PANELS.items():
        panels.append({"type": "row", "title": row, "gridPos": _place(0, top, 24, 1)})
        width, height = 24 // len(content), 5 if row == _ALERTS else 8
        for column, (title, unit, queries) in enumerate(content):
            panels.append(
                {
                    **(_states() if row == _ALERTS else _curves(row, unit, queries)),
                    "title": title,
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "gridPos": _place(column * width, top + 1, width, height),
                    "targets": [
                        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
                        for number, (query, legend) in enumerate(queries)
                    ],
                }
            )
        top += 1 + height
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return {
        "title": "prelabel",
        "uid": "prelabel",
        "schemaVersion": 39,
        "tags": ["prelabel", "ray"],
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }


def _curves(row: str, unit: str, queries: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a panel of curves over time, without its queries."""
    is_grouped = any("{{" in legend for _, legend in queries)  # many fills would hide each other
    defaults: dict[str, Any] = {
        "unit": unit,
        "min": 0,
        "custom": {"lineWidth": 2, "fillOpacity": 0 if is_grouped else 8, "showPoints": "never"},
    }
    if unit in _MOST:
        defaults["max"] = _MOST[unit]
    if row == "Load and capacity" and unit == "none":
        defaults["decimals"] = 0
    if row == "GPUs":
        defaults["noValue"] = _NO_GPU
    return {
        "type": "timeseries",
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            # Numbers that many curves share, such as one replica each, are read from the legend.
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "calcs": ["lastNotNull"] if unit == "none" else [],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _states() -> dict[str, Any]:
    """Return a panel with a bar for the time in which each alert was pending or firing."""
    overrides = [
        {
            "matcher": {"id": "byRegexp", "options": f".* {state}"},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for state, colour in (("pending", "orange"), ("firing", "red"))
    ]
    text = {"type": "value", "options": {"1": {"text": " "}}}
    return {
        "type": "state-timeline",
        "fieldConfig": {
            "defaults": {"noValue": "No alert", "mappings": [text]},
            "overrides": overrides,
        },
        "options": {"legend": {"showLegend": False}, "rowHeight": 0.7},
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def main() -> None:
    """Write dashboard.json, or with --check exit with an error if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only check that it is up to date")
    text = json.dumps(dashboard(), indent=2) + "\n"
    if not parser.parse_args().check:
        _TARGET.write_text(text)
    elif _TARGET.read_text() != text:
        sys.exit("dashboard.json is out of date. Run make_dashboard.py without --check.")


if __name__ == "__main__":
    main()

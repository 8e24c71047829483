"""Writes dashboard.json, which Grafana imports: one list of panels is easier to keep than its JSON.

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


# Row: panels of title, unit and queries, each with a legend.
PANELS: dict[str, list[tuple[str, str, list[tuple[str, str]]]]] = {
    "What users see": [
        (
            "Tasks per second",
            "reqps",
            [
                (f"sum(rate(ray_prelabel_tasks_total{_RATE}))", "answered"),
                (f"sum(rate(ray_prelabel_tasks_failed_total{_RATE}))", "by an error"),
            ],
        ),
        (
            "Seconds of a request",
            "s",
            _quantiles("ray_prelabel_request_seconds", "kind", 0.5, 0.95),
        ),
        (
            "Errors per second",
            "reqps",
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
    "Where the time goes": [
        ("Seconds of a stage, p95", "s", _quantiles("ray_prelabel_stage_seconds", "stage", 0.95)),
        (
            "Pictures in a batch",
            "none",
            [
                (
                    _ratio("ray_prelabel_batch_size_sum", "ray_prelabel_batch_size_count"),
                    "mean",
                )
            ],
        ),
        (
            "Passes through the model spared",
            "percentunit",
            [
                (
                    _ratio(f'{_LOOKUPS}{{outcome="hit"}}', _LOOKUPS, "by (cache) "),
                    "{{cache}}",
                )
            ],
        ),
    ],
    "How much there is to do": [
        (
            "Tasks in progress, pictures that wait",
            "none",
            [
                ("sum(ray_prelabel_tasks_in_progress)", "tasks"),
                ("sum(ray_prelabel_queue_depth)", "pictures"),
            ],
        ),
        (
            "Replicas",
            "none",
            [("sum by (deployment) (ray_serve_deployment_replica_healthy)", "{{deployment}}")],
        ),
        (
            "Processor and memory of the nodes",
            "percent",
            [
                ("ray_node_cpu_utilization", "processor {{ip}}"),
                ("100 * ray_node_mem_used / ray_node_mem_total", "memory {{ip}}"),
            ],
        ),
    ],
    "GPUs": [
        (
            "GPUs",
            "percent",
            [("ray_node_gpus_utilization", "{{ip}} {{GpuIndex}}")],
        ),
        (
            "Memory of GPUs",
            "decmbytes",
            [("ray_node_gram_used", "{{ip}} {{GpuIndex}}")],
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """As Grafana (10 and newer) imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, content in PANELS.items():
        panels.append({"type": "row", "title": row, "gridPos": _place(0, top, 24, 1)})
        width = 24 // len(content)
        for column, (title, unit, queries) in enumerate(content):
            panels.append(
                {
                    "type": "timeseries",
                    "title": title,
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "gridPos": _place(column * width, top + 1, width, 8),
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                    "targets": [
                        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
                        for number, (query, legend) in enumerate(queries)
                    ],
                }
            )
        top += 9
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


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def main() -> None:
    """Write, or only check that nobody forgot to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = json.dumps(dashboard(), indent=2) + "\n"
    if not parser.parse_args().check:
        _TARGET.write_text(text)
    elif _TARGET.read_text() != text:
        sys.exit("dashboard.json is not what make_dashboard.py makes. Run it without --check.")


if __name__ == "__main__":
    main()

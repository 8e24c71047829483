"""Metrics of the running service as a real Prometheus reads them, and what the dashboard asks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import yaml
from PIL import Image

from deploy.monitoring import draw_dashboard
from deploy.monitoring.local_prometheus import find_prometheus, prometheus_running
from tests.support.paths import ROOT
from tests.support.scenes import fresh
from tests.support.service_client import Service

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS = (MONITORING / "alerts.yml").read_text()
BROKEN = "data:image/png;base64,bm8gcGljdHVyZQ=="
PATIENCE_S = 90


class Prometheus(draw_dashboard.Prometheus):
    def query(self, expression: str) -> list[float]:
        found = self.get("query", query=expression)["result"]
        return [float(each["value"][1]) for each in found]


@pytest.fixture(scope="module")
def prometheus(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program = find_prometheus()
    if program is None:
        pytest.skip("needs Prometheus: apt-get install prometheus, or deploy/monitoring/fetch.sh")
    [node] = ray.nodes()  # type: ignore[no-untyped-call]
    discovery = {"static_configs": [{"targets": [f"127.0.0.1:{node['MetricsExportPort']}"]}]}
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus_running(program, discovery, 1, ALERTS, folder) as url:
        yield Prometheus(url)


def panels() -> list[tuple[str, str]]:
    """Titles and queries of all panels, but of those that need a GPU."""
    found: list[tuple[str, str]] = []
    for panel in DASHBOARD["panels"]:
        if panel["title"] == "GPUs":
            break
        found += [(panel["title"], each["expr"]) for each in panel.get("targets", ())]
    return found


def test_every_panel_shows_something_after_some_requests(
    service: Service, prometheus: Prometheus
) -> None:
    missing = dict.fromkeys(expression for _, expression in panels())
    assert len(missing) > 10
    deadline = time.monotonic() + PATIENCE_S
    while missing and time.monotonic() < deadline:
        picture = fresh()[0]
        service.predict(picture)  # an annotator's
        service.predict(picture, *fresh(2), BROKEN)  # a bulk, with something known and an error
        service.post("/playground/candidates", {"image": picture, "prompt": "cat"})
        time.sleep(1)
        for expression in list(missing):
            values = prometheus.query(expression.replace("$__rate_interval", "1m"))
            if any(value == value and value >= 0 for value in values):  # NaN is no answer
                del missing[expression]
    assert not missing


def test_the_mean_size_of_a_batch_is_that_of_its_pictures(
    service: Service, prometheus: Prometheus
) -> None:
    service.predict(*fresh(2))
    [mean] = prometheus.query(
        "sum(ray_prelabel_batch_size_sum) / sum(ray_prelabel_batch_size_count)"
    )
    assert mean >= 1


def test_the_dashboard_is_drawn_with_the_values_of_all_panels(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    picture, now = tmp_path / "dashboard.png", time.time()
    without_values = draw_dashboard.draw(prometheus, now - 120, now, picture)
    assert set(without_values) <= {"GPU utilisation", "GPU memory"}
    with Image.open(picture) as drawn:
        assert drawn.size > (1000, 1000)


def test_prometheus_counts_what_was_asked(service: Service, prometheus: Prometheus) -> None:
    names = ("tasks", "tasks_failed", "regions", "requests")

    def totals() -> list[float]:
        label = '{application="prelabel"}'
        return [sum(prometheus.query(f"ray_prelabel_{name}_total{label}")) for name in names]

    before, last = totals(), [-1.0]
    while before != last:  # what was asked earlier arrives up to ten seconds later
        time.sleep(12)
        before, last = totals(), before
    entries = service.predict(*fresh(4), BROKEN)
    boxes = sum(len(entry.get("result", ())) for entry in entries)
    assert boxes == 8
    wanted = [total + new for total, new in zip(before, (5, 1, boxes, 1), strict=True)]
    deadline = time.monotonic() + PATIENCE_S
    while (found := totals()) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    assert found == wanted


def test_alerts_are_understood_and_ask_for_what_there_is(prometheus: Prometheus) -> None:
    wanted = {alert["alert"] for alert in yaml.safe_load(ALERTS)["groups"][0]["rules"]}
    deadline = time.monotonic() + PATIENCE_S
    healthy: set[str] = set()
    while healthy != wanted and time.monotonic() < deadline:
        [group] = prometheus.get("rules")["groups"]
        healthy = {rule["name"] for rule in group["rules"] if rule["health"] == "ok"}
        time.sleep(0.5)
    assert healthy == wanted
    names = set(prometheus.get("label/__name__/values"))
    assert set(re.findall(r"\bray_\w+", ALERTS)) <= names


def test_every_alert_is_explained() -> None:
    text = (ROOT / "docs" / "operator" / "operations.md").read_text()
    for name in re.findall(r"alert: (\w+)", ALERTS):
        assert f"### {name}" in text

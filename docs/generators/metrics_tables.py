"""The tables of metrics and alerts, from their declarations.

The code of deployments/metrics.py is read and not run, because Ray's metrics need a Ray.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import yaml

from docs.generators.markdown_table import table
from tests.support.paths import ROOT

_SOURCE = ROOT / "deployments" / "metrics.py"
_ALERTS = ROOT / "deploy" / "monitoring" / "alerts.yml"
_KINDS = ("Counter", "Gauge", "Histogram")
# Prometheus' names of a counter end so; a histogram has three series.
_ENDINGS = {"Counter": "_total", "Gauge": "", "Histogram": "_bucket, _sum, _count"}


def metrics() -> str:
    """Return a table of all metrics: Prometheus' name, kind, labels of their own, meaning."""
    rows = []
    for kind, name, labels, meaning in sorted(declared(), key=lambda each: each[1]):
        ending = _ENDINGS[kind]
        shown = f"`ray_{name}{ending}`" if kind != "Histogram" else f"`ray_{name}`"
        rows.append((shown, kind.lower(), ", ".join(f"`{label}`" for label in labels), meaning))
    return "\n".join(table(("metric", "kind", "labels", "meaning"), rows))


def declared() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Yield kind, name, labels and meaning of each metric that deployments/metrics.py makes."""
    for node in ast.walk(ast.parse(_SOURCE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.DictComp) and isinstance(node.value, ast.Call):
            kind = ast.unparse(node.value.func)
            for name, meaning in ast.literal_eval(node.generators[0].iter):
                yield kind, f"prelabel_{name}", (), meaning
        elif isinstance(node, ast.Call) and isinstance(next(iter(node.args), None), ast.Constant):
            kind = ast.unparse(node.func)
            if kind in _KINDS:
                given = {
                    word.arg: ast.literal_eval(word.value)
                    for word in node.keywords
                    if word.arg in ("tag_keys", "description")
                }
                name = ast.literal_eval(node.args[0])
                yield kind, name, given.get("tag_keys", ()), given["description"]


def alerts() -> str:
    """Return a table of all alerts: name, severity, how long the fault lasts first, meaning."""
    rows = []
    for group in yaml.safe_load(_ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            name = rule["alert"]
            meaning = rule["annotations"]["summary"].replace(
                "{{ $labels.deployment }}", "A deployment"
            )
            meaning = meaning.replace("{{ $value | humanizePercentage }}", "More than 5 %")
            meaning = meaning.replace("{{ $value | humanizeDuration }}", "10 s")
            rows.append(
                (f"[{name}](#{name.lower()})", rule["labels"]["severity"], rule["for"], meaning)
            )
    return "\n".join(table(("alert", "severity", "after", "meaning"), rows))

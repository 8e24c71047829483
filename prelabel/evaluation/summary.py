"""A report as plain values, for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prelabel.evaluation.advice import Advice
from prelabel.evaluation.findings import findings
from prelabel.evaluation.report import LabelReport, Report, Wrong


def summary_of(report: Report) -> dict[str, Any]:
    """Return the figures of a report. Values that are not defined are None."""
    return {
        "pictures": report.pictures,
        "negatives": report.negatives,
        "boxes": {"people": report.truth, "model": report.predicted},
        "ap": asdict(report.ap),
        "ap50": asdict(report.ap50),
        "ap75": asdict(report.ap75),
        **asdict(report.point),
        "labels": [_label(each) for each in report.labels],
        "sizes": [asdict(each) for each in report.sizes],
        "confusion": {
            "labels": [each.label for each in report.labels],
            "people_by_model": report.confusion.tolist(),
        },
        "corrections": asdict(report.corrections),
        "agreement": None if report.agreement is None else asdict(report.agreement),
        "worst": [_wrong(each) for each in report.worst],
        "advice": None if report.advice is None else _advice(report.advice),
        "resamples": report.resamples,
        "findings": findings(report),
    }


def _label(label: LabelReport) -> dict[str, Any]:
    curve = label.curve
    return {
        "label": label.label,
        "boxes": {"people": label.truth, "model": label.predicted},
        "threshold": label.threshold,
        "ap": asdict(label.ap),
        "ap50": asdict(label.ap50),
        **asdict(label.point),
        "curve": {
            "thresholds": curve.thresholds.tolist(),
            "precision": curve.precision.tolist(),
            "recall": curve.recall.tolist(),
        },
    }


def _wrong(wrong: Wrong) -> dict[str, Any]:
    return {
        "task": wrong.sample.task,
        "picture": wrong.sample.item_index,
        "missed": len(wrong.matches.missed),
        "false": len(wrong.matches.false),
        "mislabelled": len(wrong.matches.mislabelled),
    }


def _advice(advice: Advice) -> dict[str, Any]:
    return {**asdict(advice), "proposals": advice.proposals}

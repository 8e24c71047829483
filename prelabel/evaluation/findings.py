"""The meaning of a report, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from prelabel.evaluation.advice import MIN_BOXES, Advice, LabelAdvice
from prelabel.evaluation.bootstrap import MIN_PICTURES, Estimate
from prelabel.evaluation.report import Report

_CLOSE: Final = 0.03  # half of an interval that tells two models apart
_MOST_NAMED: Final = 5
_LONGEST_NAME: Final = 40  # characters of a label in a sentence


def short(name: str, length: int = _LONGEST_NAME) -> str:
    """Return a name cut to a length."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def with_interval(estimate: Estimate) -> str:
    """Return a measure with its interval, such as "0.512 (0.45-0.58)"; "-" if not defined."""
    value, interval = value_and_interval(estimate)
    return f"{value} ({interval})" if interval else value


def value_and_interval(estimate: Estimate) -> tuple[str, str]:
    """Return a measure and its interval, such as "0.512" and "0.45-0.58"; "-" if not defined."""
    if estimate.value is None:
        return "-", ""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}", ""
    return f"{estimate.value:.3f}", f"{estimate.low:.2f}-{estimate.high:.2f}"


def findings(report: Report) -> list[str]:
    """Return the sentences to show beside the figures."""
    return [*_certainty(report), *_rare_labels(report), *_agreement(report), *_corrections(report)]


def advice_sentence(advice: Advice) -> str:
    """Return what to expect of the proposed thresholds, or that there are none."""
    if not advice.proposals:
        return (
            "No threshold is proposed: none is better on pictures that it was not chosen on. The "
            "reasons are in the table."
        )
    gain = advice.gain
    interval = (
        ""
        if gain.low is None or gain.high is None
        else f", with 95 % confidence between {gain.low:+.3f} and {gain.high:+.3f}"
    )
    return (
        f"Thresholds were chosen on {advice.chosen_on} pictures. On the {advice.checked_on} "
        f"others, the F1 of all boxes goes from {_figure(advice.before)} to {_figure(advice.after)}"
        f"{interval}."
    )


def advice_row(advice: LabelAdvice) -> tuple[str, str, str]:
    """Return the current threshold, the proposed one, and the gain or the reason to keep it."""
    if advice.proposed is None:
        return f"{advice.current:.2f}", "keep", advice.reason
    gain = advice.gain
    interval = "" if gain.low is None else f" ({gain.low:+.2f} to {gain.high:+.2f})"
    outcome = (
        f"F1 {_figure(advice.before)} to {_figure(advice.after)}{interval}, precision "
        f"{_figure(advice.precision[0])} to {_figure(advice.precision[1])}, recall "
        f"{_figure(advice.recall[0])} to {_figure(advice.recall[1])}"
    )
    return f"{advice.current:.2f}", f"{advice.proposed:.2f}", outcome


def _certainty(report: Report) -> Iterator[str]:
    ap, count = report.ap, report.pictures
    if count < MIN_PICTURES:
        yield (
            f"Too few pictures ({count}) to tell how far these figures may be off. Annotate at "
            f"least {MIN_PICTURES}, better 200."
        )
    elif ap.value is None or ap.half_width is None:
        yield "There is no box of people, so that average precision and recall are not defined."
    elif ap.half_width <= _CLOSE:
        yield (
            f"With 95 % confidence, AP is between {ap.low:.2f} and {ap.high:.2f}: {count} pictures "
            "are enough to compare models and thresholds."
        )
    else:
        needed = math.ceil(count * (ap.half_width / _CLOSE) ** 2 / 10) * 10
        yield (
            f"{count} pictures say little: with 95 % confidence, AP is anywhere between "
            f"{ap.low:.2f} and {ap.high:.2f}. About {needed} annotated pictures would tell it to "
            f"within {_CLOSE:g}."
        )


def _rare_labels(report: Report) -> Iterator[str]:
    rare = [each for each in report.labels if each.truth < MIN_BOXES]
    if rare:
        named = ", ".join(f"{short(each.label)} ({each.truth})" for each in rare[:_MOST_NAMED])
        more = f" and {len(rare) - _MOST_NAMED} more" if len(rare) > _MOST_NAMED else ""
        yield f"Labels with fewer than {MIN_BOXES} boxes, whose figures say little: {named}{more}."


def _agreement(report: Report) -> Iterator[str]:
    if (agreement := report.agreement) is not None:
        yield (
            f"People who annotated the same pictures ({agreement.pictures}) agree with an F1 of "
            f"{agreement.f1:.3f}. The newest annotation of a task counts. A model cannot be "
            "measured to be better than people agree."
        )


def _corrections(report: Report) -> Iterator[str]:
    fixed = report.corrections
    if not (fixed.kept or fixed.changes):
        return
    basis = (
        f"{fixed.pictures} of {report.pictures} annotations were made from predictions"
        if fixed.pictures
        else "no annotation was made from a stored prediction, so that boxes are told by overlap"
    )
    yield (
        f"People kept {fixed.kept} predicted boxes, moved {fixed.moved}, relabelled "
        f"{fixed.relabelled}, deleted {fixed.deleted} and added {fixed.added}: "
        f"{fixed.changes / max(report.pictures, 1):.1f} changes a picture ({basis})."
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

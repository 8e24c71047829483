"""Which methods Serve runs in the replica's loop, one at a time, and not in threads."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from deployments.journal import JournalKeeper
from deployments.postprocessor import Postprocessor


@pytest.mark.parametrize(
    "method", [JournalKeeper.note, JournalKeeper.errors, JournalKeeper.metrics]
)
def test_the_journal_adds_up_one_report_at_a_time(method: Callable[..., Any]) -> None:
    assert inspect.iscoroutinefunction(method)


def test_no_thread_stands_between_detections_and_their_prediction() -> None:
    assert inspect.isasyncgenfunction(Postprocessor.__call__)

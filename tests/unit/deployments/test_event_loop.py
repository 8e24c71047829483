"""Methods that complete in one step of the replica's event loop.

Serve runs a synchronous method in a thread of a pool, beside others; an asynchronous one runs in
the event loop, and another call's code can run only where it suspends.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from deployments.journal import JournalDeployment
from deployments.postprocessor import Postprocessor
from prelabel.observability.journal import Report
from prelabel.observability.request_context import RequestContext
from prelabel.settings import AppSettings
from prelabel.types import TaskPlan

ResultT = TypeVar("ResultT")


def in_one_step(awaitable: Awaitable[ResultT]) -> ResultT:
    """Return the result. Fails if the awaitable suspends, which lets other calls run."""
    with pytest.raises(StopIteration) as completed:
        awaitable.__await__().__next__()
    result: ResultT = completed.value.value
    return result


class Reports(Sequence[Report]):
    """Reports that note the thread that reads them."""

    def __init__(self, reports: list[Report]) -> None:
        self._reports = reports
        self.threads: set[int] = set()

    def __getitem__(self, index: Any) -> Any:
        return self._reports[index]

    def __len__(self) -> int:
        return len(self._reports)

    def __iter__(self) -> Iterator[Report]:
        self.threads.add(threading.get_ident())
        return iter(self._reports)


def test_the_journal_adds_reports_without_letting_another_call_run() -> None:
    journal = JournalDeployment("INFO")
    reports = Reports([Report({"tasks": 2}), Report({"tasks": 3})])
    in_one_step(journal.add(reports))
    assert reports.threads == {threading.get_ident()}
    assert in_one_step(journal.metrics())["tasks"] == 5
    assert in_one_step(journal.errors(None, 10)) == []


def test_a_prediction_is_made_in_the_event_loop_without_a_wait() -> None:
    postprocessor = Postprocessor(AppSettings(), "1")
    predictions = aiter(postprocessor(TaskPlan(()), (), RequestContext()))
    prediction = in_one_step(anext(predictions))
    assert prediction["result"] == []
    with pytest.raises(StopAsyncIteration):
        in_one_step(anext(predictions))

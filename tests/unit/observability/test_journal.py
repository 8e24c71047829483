import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from prelabel.errors import JournalError
from prelabel.observability.journal import Fault, Journal, JournalWriter, Report


def fault(number: int, project: str | None = "3.17") -> Fault:
    return Fault(datetime.now(UTC), f"r{number}", project, number, "ImageFetchError", "Not there.")


def test_reports_of_all_replicas_add_up() -> None:
    journal = Journal()
    journal.add(Report({"tasks": 2, "regions": 5}, seconds=1.0))
    journal.add(Report({"tasks": 1}, seconds=3.0))
    journal.add(Report({"webhooks": 1}))
    metrics = journal.metrics()
    assert (metrics["tasks"], metrics["regions"], metrics["webhooks"]) == (3, 5, 1)
    assert metrics["bulk_seconds_p50"] == 2.0
    assert metrics["bulk_seconds_max"] == 3.0
    assert metrics["uptime_s"] >= 0


def test_times_of_annotators_and_of_bulk_requests_are_told_apart() -> None:
    journal = Journal()
    for seconds in (0.1, 0.2, 0.3):
        journal.add(Report({}, seconds=seconds, interactive=True))
    journal.add(Report({}, seconds=60.0))
    metrics = journal.metrics()
    assert metrics["interactive_seconds_p50"] == 0.2
    assert metrics["interactive_seconds_p95"] == pytest.approx(0.29)
    assert metrics["bulk_seconds_p50"] == 60.0


def test_without_predicts_there_are_no_times() -> None:
    assert set(Journal().metrics()) == {"uptime_s"}


def test_the_newest_errors_come_first_and_the_oldest_are_forgotten() -> None:
    journal = Journal()
    for number in range(600):
        journal.add(Report({}, (fault(number),)))
    assert [each.task for each in journal.errors(None, 3)] == [599, 598, 597]
    everything = journal.errors(None, 10_000)
    assert len(everything) == 500
    assert everything[-1].task == 100


@pytest.mark.parametrize(
    ("project", "tasks"), [("3", [2, 1]), ("3.17", [1]), ("1", []), (None, [4, 3, 2, 1])]
)
def test_errors_of_one_project_by_its_id_or_key(project: str | None, tasks: list[int]) -> None:
    journal = Journal()
    for number, key in enumerate(["3.17", "3.99", "31.7", None], start=1):
        journal.add(Report({}, (fault(number, key),)))
    assert [each.task for each in journal.errors(project, 10)] == tasks


class FailingJournal:
    """Fails the first calls, and adds up what the others bring."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0
        self.counts: dict[str, int] = {}
        self.faults: list[Fault] = []

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        return self.faults[:limit]

    async def metrics(self) -> dict[str, float]:
        return {**self.counts}

    async def add(self, reports: Sequence[Report]) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls <= self.failures:
            raise JournalError("Not there.")
        for report in reports:
            self.faults += report.faults
            for name, number in report.counts.items():
                self.counts[name] = self.counts.get(name, 0) + number


def test_reports_of_a_failed_call_are_sent_again_with_those_that_came_meanwhile() -> None:
    async def run() -> FailingJournal:
        journal = FailingJournal(failures=2)
        writer = JournalWriter(journal, retry_after_s=0.01)
        writer.add(Report({"tasks": 1}, (fault(1),)))
        with pytest.raises(JournalError, match="Not there"):
            await writer.flush()
        writer.add(Report({"tasks": 2}, (fault(2),)))
        with pytest.raises(JournalError, match="Not there"):
            await writer.flush()
        await writer.flush()
        await writer.flush()
        return journal

    journal = asyncio.run(run())
    assert journal.counts == {"tasks": 3}
    assert [each.task for each in journal.faults] == [1, 2]
    assert journal.calls == 3, "an empty buffer is not sent"


def test_a_journal_that_comes_back_gets_the_reports_without_another_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> FailingJournal:
        journal = FailingJournal(failures=3)
        writer = JournalWriter(journal, retry_after_s=0.01)
        writer.add(Report({"tasks": 1}))
        async with asyncio.timeout(10):
            while not journal.counts:
                await asyncio.sleep(0.01)
        return journal

    assert asyncio.run(run()).counts == {"tasks": 1}
    assert len(caplog.records) == 1, "an outage is logged once"


def test_a_caller_that_is_cancelled_loses_no_report() -> None:
    async def run() -> FailingJournal:
        journal = FailingJournal(failures=0)
        writer = JournalWriter(journal)
        writer.add(Report({"tasks": 1}))
        flush = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush
        await writer.flush()
        return journal

    assert asyncio.run(run()).counts == {"tasks": 1}


def test_while_the_journal_is_away_memory_is_bounded_and_no_count_is_lost() -> None:
    async def run() -> FailingJournal:
        journal = FailingJournal(failures=1)
        writer = JournalWriter(journal)
        for number in range(7_000):
            writer.add(Report({"tasks": 1}, (fault(number),)))
        assert len(writer._pending) <= 2_000
        with pytest.raises(JournalError):
            await writer.flush()
        writer.add(Report({"tasks": 1}, (fault(7_000),)))
        await writer.flush()
        return journal

    journal = asyncio.run(run())
    assert journal.counts == {"tasks": 7_001}
    assert len(journal.faults) <= 2_500
    assert journal.faults[-1].task == 7_000

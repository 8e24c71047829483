from datetime import UTC, datetime

import pytest

from prelabel.observability.journal import Fault, Journal, Report


def fault(number: int, project: str | None = "3.17") -> Fault:
    return Fault(datetime.now(UTC), f"r{number}", project, number, "ImageFetchError", "Not there.")


def test_reports_of_all_replicas_add_up() -> None:
    journal = Journal()
    journal.note(Report({"tasks": 2, "regions": 5}, seconds=1.0))
    journal.note(Report({"tasks": 1}, seconds=3.0))
    journal.note(Report({"webhooks": 1}))
    metrics = journal.metrics()
    assert (metrics["tasks"], metrics["regions"], metrics["webhooks"]) == (3, 5, 1)
    assert metrics["bulk_seconds_p50"] == 2.0
    assert metrics["bulk_seconds_max"] == 3.0
    assert metrics["uptime_s"] >= 0


def test_times_of_annotators_and_of_bulk_requests_are_told_apart() -> None:
    journal = Journal()
    for seconds in (0.1, 0.2, 0.3):
        journal.note(Report({}, seconds=seconds, interactive=True))
    journal.note(Report({}, seconds=60.0))
    metrics = journal.metrics()
    assert metrics["interactive_seconds_p50"] == 0.2
    assert metrics["interactive_seconds_p95"] == pytest.approx(0.29)
    assert metrics["bulk_seconds_p50"] == 60.0


def test_without_predicts_there_are_no_times() -> None:
    assert set(Journal().metrics()) == {"uptime_s"}


def test_the_newest_errors_come_first_and_the_oldest_are_forgotten() -> None:
    journal = Journal()
    for number in range(600):
        journal.note(Report({}, (fault(number),)))
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
        journal.note(Report({}, (fault(number, key),)))
    assert [each.task for each in journal.errors(project, 10)] == tasks
